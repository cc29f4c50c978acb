"""A network as a graph of tensors in and tensors out: ONNX and torch.export, as bytes and as something to call.

It decides neither which run it is nor whether the result is right (`export.py`).
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from gatelab.core import GRU, LSTM, RNN
from gatelab.core.torch_layers import TorchGRU, TorchLSTM, TorchRNN
from gatelab.tasks.contract import GraphInterface

OPSET = 17
Inputs = tuple[Tensor, ...]


class Graph(nn.Module):
    """A network whose inputs and outputs are tensors only: state goes in and comes out piece by piece."""

    def __init__(self, net: nn.Module, states: int) -> None:
        super().__init__()
        self.net, self.states = net, states

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return (logits [T, B, V], state...) of tokens [T, B], or (forecast [B, P, K],) of past [B, T, C]."""
        if self.states == 0:
            return (self.net(x),)
        y, after = self.net(x, state[0] if self.states == 1 else state)
        return (y, after) if self.states == 1 else (y, *after)


def standard_core(core: nn.Module) -> nn.Module | None:
    """The layer of torch.nn, which ONNX knows as one operation, with the weights of `core`; None if there is none."""
    if isinstance(core, TorchGRU | TorchLSTM | TorchRNN):
        return core
    if isinstance(core, GRU) and (not core.reset_after or core.zoneout or core.layer_norm):
        return None
    kinds: dict[type, Callable[..., nn.Module]] = {GRU: TorchGRU, LSTM: TorchLSTM, RNN: TorchRNN}
    make = kinds.get(type(core))
    if make is None:
        return None
    return _as(make, core)


def written_out(core: nn.Module) -> nn.Module:
    """The layer whose steps a graph can hold: `core`, or for one of torch.nn the from-scratch one, with its weights."""
    kinds: dict[type, Callable[..., nn.Module]] = {TorchGRU: GRU, TorchLSTM: LSTM, TorchRNN: RNN}
    make = kinds.get(type(core))
    layer = core if make is None else _as(make, core)
    if isinstance(layer, GRU):
        layer.backend = "reference"
    return layer


def _as(make: Callable[..., nn.Module], core: nn.Module) -> nn.Module:
    names = ["input_size", "hidden_size", "num_layers", "bias", "bidirectional"]
    names += ["nonlinearity"] if isinstance(core, RNN | TorchRNN) else []
    layer = make(**{name: getattr(core, name) for name in names})
    layer.load_state_dict(core.state_dict())
    return layer.eval()


def _free(names: Mapping[str, tuple[int | str, ...]]) -> dict[str, dict[int, str]]:
    return {name: {i: d for i, d in enumerate(shape) if isinstance(d, str)} for name, shape in names.items()}


def onnx_graph(
    graph: Graph, inputs: Inputs, interface: GraphInterface, note: str
) -> tuple[bytes, Callable[[Inputs], Inputs]]:
    """The ONNX file with `note` in its metadata, and ONNX Runtime running it."""
    import onnx
    import onnxruntime  # type: ignore[import-untyped]

    buffer = io.BytesIO()
    torch.onnx.export(
        graph,
        inputs,
        buffer,  # type: ignore[arg-type]  # a file is fine for this exporter
        dynamo=False,  # it has the recurrent layers as one operation, with time free
        input_names=list(interface.inputs),
        output_names=list(interface.outputs),
        dynamic_axes={**_free(interface.inputs), **_free(interface.outputs)},
        opset_version=OPSET,
    )
    model = onnx.load_model_from_string(buffer.getvalue())
    onnx.helper.set_model_props(model, {"gatelab": note})
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(given: Inputs) -> Inputs:
        feed = {name: value.numpy() for name, value in zip(interface.inputs, given, strict=True)}
        return tuple(torch.from_numpy(value) for value in session.run(None, feed))

    return content, run


def torch_export(
    graph: Graph, inputs: Inputs, interface: GraphInterface, note: str
) -> tuple[bytes, Callable[[Inputs], Inputs]]:
    """The `.pt2` file with `note` as `gatelab.json` in it, and what it loads as. Outputs have no names there."""
    free = {name: torch.export.Dim(name) for name in ("batch", "time")}
    first, *states = (
        {i: free[d] for i, d in enumerate(shape) if isinstance(d, str)} for shape in interface.inputs.values()
    )
    dynamic = {"x": first, "state": tuple(states)} if states else {"x": first}
    program = torch.export.export(graph, inputs, dynamic_shapes=dynamic)
    buffer = io.BytesIO()
    logging.getLogger("torch._export.serde.serialize").setLevel(
        logging.ERROR
    )  # a loop without weights puzzles it
    torch.export.save(program, buffer, extra_files={"gatelab.json": note})
    content = buffer.getvalue()
    module = torch.export.load(io.BytesIO(content)).module()
    return content, lambda given: tuple(module(*given))

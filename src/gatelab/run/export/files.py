"""The formats of an export: what is written, and what runs it again, so that it can be compared and scored.

Letters: T time, B batch, C channels, P horizon, K targets, V vocabulary.
"""

from __future__ import annotations

import io
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gatelab.core.weights.compression import matrices, pack, unpack
from gatelab.tasks.contract import GraphInterface

OPSET = 17
Inputs = tuple[Tensor, ...]


class Graph(nn.Module):
    """A network whose inputs and outputs are tensors only: state goes in and comes out piece by piece.

    `pack`: see `GraphInterface`.
    """

    def __init__(
        self, net: nn.Module, states: int, pack: Callable[[Sequence[Tensor]], Any] | None = None
    ) -> None:
        super().__init__()
        self.net, self.states, self.pack = net, states, pack

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return (logits [T, B, V], state...) of tokens [T, B], or (forecast [B, P, K],) of past [B, T, C].

        Without a state in the output the further inputs are the network's own.
        """
        if self.pack is not None:
            return (self.net(x, self.pack(state)),)
        if self.states == 0:
            return (self.net(x, *state),)
        y, after = self.net(x, state[0] if self.states == 1 else state)
        return (y, after) if self.states == 1 else (y, *after)


def as_graph(net: nn.Module, interface: GraphInterface) -> nn.Module:
    """The network as its interface says: tensors in, a tuple of tensors out."""
    if interface.module is not None:
        return cast(nn.Module, interface.module(net))
    return Graph(net, len(interface.outputs) - 1, interface.pack)


def plain_weights(net: nn.Module) -> None:
    """Let weights that are computed from others (weight drop) be parameters under their own names."""
    for module in list(net.modules()):
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)


def safetensors_file(
    net: nn.Module, interface: GraphInterface, note: str, packed: bool = False, int8: bool = False
) -> tuple[bytes, Callable[[Inputs], Inputs]]:
    """The file with the weights of `net`, each once, and which names stand for which others (tied weights).

    packed: see `gatelab.core.weights.compression`. `net` then gets the weights that were written.
    """
    from safetensors.torch import load, save

    weights: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    seen: dict[tuple[int, Any], str] = {}
    for name, value in net.state_dict().items():
        source = seen.setdefault((value.data_ptr(), tuple(value.shape)), name)
        if source != name and value.numel():
            shared[name] = source
        else:
            weights[name] = value.detach().cpu().contiguous()
    stored, shapes = pack(weights, matrices(net) if packed else {}, int8=int8)
    about = {"format": "pt", "gatelab": note, "shared": json.dumps(shared)}
    content = save(stored, {**about, "packed": json.dumps(shapes)} if packed else about)
    found = unpack(load(content), shapes)
    for parameter in net.parameters():
        parameter.zero_()
    net.load_state_dict({**found, **{name: found[source] for name, source in shared.items()}})
    graph = as_graph(net, interface)
    return content, lambda given: tuple(graph(*given))


def onnx_graph(
    graph: nn.Module, inputs: Inputs, interface: GraphInterface, note: str
) -> tuple[bytes, Callable[[Inputs], Inputs]]:
    """The ONNX file with `note` in its metadata, and ONNX Runtime running it."""
    import onnx

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
    return content, _onnx_runtime(content, interface)


def _onnx_runtime(content: bytes, interface: GraphInterface) -> Callable[[Inputs], Inputs]:
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(given: Inputs) -> Inputs:
        feed = {name: value.numpy() for name, value in zip(interface.inputs, given, strict=True)}
        return tuple(torch.from_numpy(value) for value in session.run(None, feed))

    return run


def int8_graph(content: bytes, interface: GraphInterface) -> tuple[bytes, Callable[[Inputs], Inputs]]:
    """An ONNX file whose products with weights are computed in int8, and ONNX Runtime running it.

    Weights get a scale for each output; what they multiply is rounded to 8 bits by its own range at each step. Weights
    take 7 of their 8 bits: processors without int8 units (VNNI) add two products in 16 bits, which 8 bits overflow.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        logging.disable(logging.WARNING)  # it advises steps that a graph of fixed shapes needs not
        try:
            quantize_dynamic(
                onnx.load_model_from_string(content),
                file,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                reduce_range=True,
            )
        finally:
            logging.disable(logging.NOTSET)
        content = file.read_bytes()
    return content, _onnx_runtime(content, interface)


def torch_export(
    graph: nn.Module, inputs: Inputs, interface: GraphInterface, note: str
) -> tuple[bytes, Callable[[Inputs], Inputs]]:
    """The `.pt2` file with `note` as `gatelab.json` in it, and what it loads as. Outputs have no names there."""
    free = {name: torch.export.Dim(name) for name in ("batch", "time")}
    first, *states = (
        {i: free[d] for i, d in enumerate(shape) if isinstance(d, str)} for shape in interface.inputs.values()
    )
    dynamic = {"x": first, "state": tuple(states)} if states else {"x": first}
    program = torch.export.export(graph, inputs, dynamic_shapes=dynamic)
    buffer = io.BytesIO()
    # a loop without weights puzzles it
    logging.getLogger("torch._export.serde.serialize").setLevel(logging.ERROR)
    torch.export.save(program, buffer, extra_files={"gatelab.json": note})
    content = buffer.getvalue()
    module = torch.export.load(io.BytesIO(content)).module()
    return content, lambda given: tuple(module(*given))


def _free(names: Mapping[str, tuple[int | str, ...]]) -> dict[str, dict[int, str]]:
    return {name: {i: d for i, d in enumerate(shape) if isinstance(d, str)} for name, shape in names.items()}

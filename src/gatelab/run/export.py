"""Write a run's network as a file that needs no Gatelab: safetensors (weights), ONNX or torch.export (the graph).

Every file is read back and its outputs are compared with the run's own before it gets its name: safetensors bit
for bit, the graphs within `TOLERANCE`. State is an input and an output, and the batch is free. Time is free too in
ONNX for the layers that ONNX has, and in torch.export for a language model; other graphs walk a fixed number of
steps one by one, which is also how a single step is fastest.

Letters: T time, B batch, C channels, P horizon, K targets, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gatelab.core import GRU, LSTM, RNN
from gatelab.core.baselines import TorchGRU, TorchLSTM, TorchRNN
from gatelab.run.build import build_task, request_errors
from gatelab.run.errors import RequestError, RunFailed
from gatelab.run.load import LoadedRun, load_task
from gatelab.tasks.checkpoint_io import AtomicFile
from gatelab.tasks.contract import GraphInterface

TOLERANCE = 1e-5
"""Largest difference of an output of a graph from the run's own, relative to the largest output (at least 1)."""
OPSET = 17
ENDINGS = {"safetensors": "safetensors", "onnx": "onnx", "torch-export": "pt2"}
Inputs = tuple[Tensor, ...]


@dataclass
class Exported:
    """What was written.

    Attributes:
        file, format, bytes: the file; checkpoint: where the weights came from.
        difference: largest absolute difference of any output from the run's own; tolerance: what is allowed.
        inputs, outputs: their names, with the free dimensions as words, e.g. `{"tokens": ["time", "batch"]}`.
    """

    file: str
    format: str
    bytes: int
    checkpoint: str
    difference: float
    tolerance: float
    inputs: dict[str, list[Any]]
    outputs: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def export(
    path: str | Path,
    kind: str,
    output: str | Path | None = None,
    *,
    steps: int | None = None,
    force: bool = False,
    trust: bool = False,
) -> Exported:
    """Write the best weights of the run in `path`, and check what was written.

    Args:
        path: the run directory.
        kind: `safetensors`, `onnx` or `torch-export`.
        output: the file; None: `export/model.<ending>` in the run directory.
        steps: T of a graph with a fixed number of steps; None: free where that can be (see above), else what the task
            says (`GraphInterface.steps`).
        force: replace a file that is there.
        trust: accept targets that are not part of Gatelab.

    Raises:
        RequestError: no such run, a file that is there, a missing package.
        RunFailed: what was written does not give the run's outputs; no file is left.
    """
    if steps is not None and steps < 1:
        raise RequestError(f"--steps {steps}: at least 1.")
    loaded = load_task(path, trust=trust)
    target = Path(output) if output is not None else loaded.run.path / "export" / f"model.{ENDINGS[kind]}"
    if target.exists() and not force:
        raise RequestError(f"{target}: exists already; --force replaces it, --output FILE writes elsewhere.")
    note = json.dumps({key: loaded.record[key] for key in ("identity", "config", "spec")})
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "safetensors":
            interface, fixed, tolerance = _interface(loaded), 0, 0.0
            content, run = _safetensors(loaded, interface, note)
        else:
            content, run, interface, fixed = _graph(loaded, kind, steps, note)
            tolerance = TOLERANCE
        difference = _difference(loaded, run, interface, fixed)
    if not difference[1] <= tolerance:
        raise RunFailed(
            f"the {kind} file gives other outputs than the run: they differ by {difference[0]:.3g}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with AtomicFile(target) as file:
        file.write(content)
    inputs = {name: list(shape) for name, shape in interface.inputs.items()}
    return Exported(
        str(target),
        kind,
        len(content),
        loaded.checkpoint.name,
        difference[0],
        tolerance,
        inputs,
        list(interface.outputs),
    )


def _interface(loaded: LoadedRun, steps: int = 0) -> GraphInterface:
    """What goes in and comes out, with T fixed where `steps` is not 0."""
    with request_errors("export"):
        interface: GraphInterface = loaded.task.graph()
    if not steps:
        return interface
    fixed = (
        {name: tuple(steps if size == "time" else size for size in shape) for name, shape in shapes.items()}
        for shapes in (interface.inputs, interface.outputs)
    )
    inputs, outputs = fixed
    return dataclasses.replace(interface, inputs=inputs, outputs=outputs)


def _as_graph(net: nn.Module, interface: GraphInterface) -> Graph:
    return Graph(net, len(interface.outputs) - 1)


def _difference(
    loaded: LoadedRun, run: Callable[[Inputs], Inputs], interface: GraphInterface, fixed: int
) -> tuple[float, float]:
    """Largest difference over a few shapes: absolute, and relative to the largest output (at least 1)."""
    usual = interface.usual_steps
    own = _as_graph(loaded.task.net, interface)
    worst = (0.0, 0.0)
    for batch, steps in ((1, usual), (5, 2 * usual), (3, usual)):
        inputs = loaded.task.example_input(batch, fixed or steps)
        for theirs, ours in zip(run(inputs), own(*inputs), strict=True):
            gap = float((theirs - ours).abs().max()) if theirs.shape == ours.shape else float("inf")
            scale = max(1.0, float(ours.abs().max()))
            worst = max(worst, (gap, gap / scale), key=lambda pair: pair[1])
    return worst


# the formats


def _safetensors(
    loaded: LoadedRun, interface: GraphInterface, note: str
) -> tuple[bytes, Callable[[Inputs], Inputs]]:
    from safetensors.torch import load, save

    weights, shared = _unshared(loaded.task.net)
    content = save(weights, {"format": "pt", "gatelab": note, "shared": json.dumps(shared)})
    fresh = _fresh(loaded)
    found = load(content)
    fresh.load_state_dict({**found, **{name: found[source] for name, source in shared.items()}})
    graph = _as_graph(fresh, interface)
    return content, lambda given: tuple(graph(*given))


def _fresh(loaded: LoadedRun) -> Any:
    """The run's network once more, with other weights."""
    task: Any = build_task(loaded.config, loaded.task.spec)
    return task.net.eval()


def _unshared(net: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights, each once, and which names stand for which others (tied weights)."""
    weights: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    seen: dict[tuple[int, Any], str] = {}
    for name, value in net.state_dict().items():
        key = (value.data_ptr(), tuple(value.shape))
        if value.numel() and key in seen:
            shared[name] = seen[key]
        else:
            seen[key] = name
            weights[name] = value.detach().cpu().contiguous()
    return weights, shared


def _graph(
    loaded: LoadedRun, kind: str, steps: int | None, note: str
) -> tuple[bytes, Callable[[Inputs], Inputs], GraphInterface, int]:
    interface = _interface(loaded)
    net = _fresh(loaded)
    net.load_state_dict(loaded.task.net.state_dict())
    core = getattr(net, "core", None)
    standard = standard_core(core) if kind == "onnx" and core is not None else None
    free = standard is not None or (kind == "torch-export" and interface.free_time)
    if core is not None:
        net.core = written_out(core) if standard is None else standard
    fixed = steps or (0 if free else interface.steps)
    interface = _interface(loaded, fixed)
    graph = _as_graph(net, interface).eval()
    inputs = loaded.task.example_input(2, fixed or interface.usual_steps)
    write = onnx_graph if kind == "onnx" else torch_export
    try:
        return *write(graph, inputs, interface, note), interface, fixed
    except ImportError as error:
        raise RequestError(
            f"--format {kind}: a package is missing ({error.name}): pip install 'gatelab[onnx]'."
        ) from None


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

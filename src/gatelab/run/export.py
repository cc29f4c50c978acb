"""Write a run's network as a file that needs no Gatelab: safetensors (weights), ONNX or torch.export (the graph).

Every file is read back and its outputs are compared with the run's own before it gets its name: safetensors bit
for bit, the graphs within `TOLERANCE`. State is an input and an output, and the batch is free. Time is free too in
ONNX for the layers that ONNX has, and in torch.export for a language model; other graphs walk a fixed number of
steps one by one, which is also how a single step is fastest.

Weights can be pruned and rounded on the way (`gatelab.core.compression`); the run is then scored with its own weights
and with those, and what was written is compared with these. With int8 an ONNX graph also computes in int8: the
products of ONNX Runtime's dynamic quantisation, which rounds what it multiplies as well.

Letters: T time, B batch, C channels, P horizon, K targets, V vocabulary.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gatelab.core import GRU, LSTM, RNN
from gatelab.core.baselines import TorchGRU, TorchLSTM, TorchRNN
from gatelab.core.cells import gru_step_after
from gatelab.core.compression import matrices, pack, round_matrices, unpack
from gatelab.core.compression import prune as prune_weights
from gatelab.core.recurrent import Recurrent
from gatelab.core.stack import Stack
from gatelab.core.unroll import State
from gatelab.data.files import atomic_write_bytes
from gatelab.run import RequestError, RunFailed
from gatelab.run.build import build_task, request_errors
from gatelab.run.load import LoadedRun, load_task
from gatelab.run.record.directory import inside
from gatelab.run.record.outputs import check_output
from gatelab.run.scoring.evaluate import device_of, score
from gatelab.tasks.contract import GraphInterface

TOLERANCE = 1e-5
"""Largest difference of an output of a graph from the run's own, relative to the largest output (at least 1)."""
INT8_TOLERANCE = 0.1
"""The same of a graph in int8, which rounds what it multiplies: it was compared before that, so this finds no more than
a graph that went wrong. What the rounding costs, the metric says."""
OPSET = 17
ENDINGS = {"safetensors": "safetensors", "onnx": "onnx", "torch-export": "pt2"}
OF_TORCH: dict[type[nn.Module], type[nn.Module]] = {GRU: TorchGRU, LSTM: TorchLSTM, RNN: TorchRNN}
Inputs = tuple[Tensor, ...]


@dataclass
class Exported:
    """What was written.

    Attributes:
        file, format, bytes: the file; checkpoint: where the weights came from.
        difference: largest absolute difference of any output from the run's own, or from those with the compressed
            weights; tolerance: what is allowed.
        inputs, outputs: their names, with the free dimensions as words, e.g. `{"tokens": ["time", "batch"]}`.

        Of compressed weights, else as where nothing is compressed:
        prune, int8: as asked for; bytes_before: of the file without them.
        scored: "graph" where the exported graph itself was scored, "weights" where the network with its weights was.
        monitor: the run's metric, without its split; cost: split -> metric -> `run`, `exported`, `difference`.
    """

    file: str
    format: str
    bytes: int
    checkpoint: str
    difference: float
    tolerance: float
    inputs: dict[str, list[Any]]
    outputs: list[str]
    prune: float | None = None
    int8: bool = False
    bytes_before: int | None = None
    scored: str = ""
    monitor: str = ""
    cost: dict[str, dict[str, dict[str, float]]] = dataclasses.field(default_factory=dict)


def export(
    path: str | Path,
    kind: str,
    output: str | Path | None = None,
    *,
    steps: int | None = None,
    prune: float | None = None,
    int8: bool = False,
    test: bool = False,
    force: bool = False,
    trust: bool = False,
) -> Exported:
    """Write the best weights of the run in `path`, and check what was written.

    Args:
        kind: `safetensors`, `onnx` or `torch-export`.
        output: the file; None: `export/model.<ending>` in the run directory.
        steps: T of a graph with a fixed number of steps; None: free where that can be (see above), else what the task
            says (`GraphInterface.steps`).
        prune: the share of the weights of all matrices that is set to zero; int8: round them, see
            `gatelab.core.compression`. Both are scored on the validation split, which is read for it.
        test: score them on the test split too.
        force: replace a file that is there.
        trust: accept targets that are not part of Gatelab.

    Raises:
        RequestError: no such run, a file that is there (or, with `force`, one that is no export), a missing package,
            a share that is none, no int8 in that format, or data that are gone.
        RunFailed: what was written does not give the run's outputs; no file is left.
    """
    if steps is not None and steps < 1:
        raise RequestError(f"--steps {steps}: at least 1.")
    if prune is not None and not 0.0 < prune < 1.0:
        raise RequestError(f"--prune {prune:g}: the share of weights to set to zero, above 0 and below 1.")
    if int8 and kind == "torch-export":
        raise RequestError("--int8: is for --format safetensors and onnx.")
    compressed = prune is not None or int8
    if test and not compressed:
        raise RequestError("--test: scores what --prune and --int8 cost; `gatelab eval` scores a run.")
    loaded = load_task(path, trust=trust)
    target = _target(loaded, kind, output, force)
    note = json.dumps({key: loaded.record[key] for key in ("identity", "config", "spec")})
    with request_errors("export"):
        interface: GraphInterface = loaded.task.graph()
    before = scores(loaded, test) if compressed else {}
    fresh: Any = build_task(loaded.config, loaded.task.spec)
    net = fresh.net.eval()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.load_state_dict(loaded.task.net.state_dict())
        _plain_weights(net)
        size = len(_safetensors(net, interface, note)[0])
        if prune is not None:
            prune_weights(net, prune)
        if compressed:  # from here on the run's own outputs are those of these weights
            loaded.task.net = copy.deepcopy(net)
        if kind == "safetensors":
            if int8:
                round_matrices(loaded.task.net)
            content, run = _safetensors(net, interface, note, compressed, int8)
            fixed, tolerance = 0, 0.0
        else:
            free = not int8 and (
                _use_exportable_core(net, kind) or (kind == "torch-export" and interface.free_time)
            )
            if interface.fixed_time or int8:
                _write_steps_out(net, SteppedGRU if int8 else GRU)
                free = False
            fixed, tolerance = steps or (0 if free else interface.steps), TOLERANCE
            interface = _with_time(interface, fixed)
            inputs = loaded.task.example_input(2, fixed or interface.usual_steps)
            content, run = _written(kind, _as_graph(net, interface).eval(), inputs, interface, note)
            size = len(content)
        difference = _checked(kind, loaded, run, interface, fixed, tolerance)
        if int8 and kind == "onnx":
            content, run = int8_graph(content, interface)
            tolerance = INT8_TOLERANCE
            difference = _checked(kind, loaded, run, interface, fixed, tolerance)
    written = Exported(
        file=str(target),
        format=kind,
        bytes=len(content),
        checkpoint=loaded.checkpoint.name,
        difference=difference,
        tolerance=tolerance,
        inputs={name: list(shape) for name, shape in interface.inputs.items()},
        outputs=list(interface.outputs),
    )
    if compressed:
        with torch.inference_mode():
            through = int8 and kind == "onnx" and loaded.task.use_graph(run, fixed)
        written.prune, written.int8, written.bytes_before = prune, int8, size
        written.scored = "graph" if through else "weights"
        written.monitor = loaded.task.monitor.removeprefix("val/")
        written.cost = cost(before, scores(loaded, test))
    atomic_write_bytes(target, content)
    return written


def _target(loaded: LoadedRun, kind: str, output: str | Path | None, force: bool) -> Path:
    """The file to write; raises as `export`."""
    own = loaded.run.path / "export" / f"model.{ENDINGS[kind]}"
    target = Path(output) if output is not None else inside(loaded.run.path, own)
    if target.exists() and not force:
        raise RequestError(f"{target}: exists already; --force replaces it, --output FILE writes elsewhere.")
    check_output(target, loaded.run.path)
    if target.exists() and target.suffix != f".{ENDINGS[kind]}":
        raise RequestError(
            f"--output {target}: is a file of another kind; let the name end in .{ENDINGS[kind]}."
        )
    return target


def scores(loaded: LoadedRun, test: bool) -> dict[str, dict[str, float]]:
    """The metrics of the task as it is now on the validation split and, if asked for, on the test split.

    Raises:
        RequestError: the data are gone, have changed, or have no such split.
    """
    data, device = loaded.data, device_of(loaded.config)
    if test and "test" not in data.splits:
        raise RequestError("--test: this data has no test split.")
    found = {split: score(loaded.task, data, split, device=device) for split in ("valid", *["test"] * test)}
    loaded.task.cpu()
    return found


def cost(
    before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Split -> metric -> its value of the run, of what was exported, and the difference."""
    return {
        split: {
            name: {"run": value, "exported": (now := after[split][name]), "difference": now - value}
            for name, value in metrics.items()
            if name in after[split]
        }
        for split, metrics in before.items()
    }


def _written(
    kind: str, graph: Graph, inputs: Inputs, interface: GraphInterface, note: str
) -> tuple[bytes, Callable[[Inputs], Inputs]]:
    """The file of a graph, and what runs it."""
    try:
        return (onnx_graph if kind == "onnx" else torch_export)(graph, inputs, interface, note)
    except ImportError as error:
        raise RequestError(
            f"--format {kind}: a package is missing ({error.name}): pip install 'gatelab[onnx]'."
        ) from None


def _checked(
    kind: str,
    loaded: LoadedRun,
    run: Callable[[Inputs], Inputs],
    interface: GraphInterface,
    fixed: int,
    tolerance: float,
) -> float:
    """The largest difference of a file's outputs from the run's own.

    Raises:
        RunFailed: it is more than `tolerance` of the largest output.
    """
    difference, relative = _difference(loaded, run, interface, fixed)
    if not relative <= tolerance:
        raise RunFailed(f"the {kind} file gives other outputs than the run: they differ by {difference:.3g}")
    return difference


def _with_time(interface: GraphInterface, steps: int) -> GraphInterface:
    """The interface with T fixed, where `steps` is not 0."""
    inputs, outputs = (
        {name: tuple(steps if d == "time" and steps else d for d in shape) for name, shape in shapes.items()}
        for shapes in (interface.inputs, interface.outputs)
    )
    return dataclasses.replace(interface, inputs=inputs, outputs=outputs)


def _as_graph(net: nn.Module, interface: GraphInterface) -> Graph:
    return Graph(net, len(interface.outputs) - 1, interface.pack)


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


def _plain_weights(net: nn.Module) -> None:
    """Let weights that are computed from others (weight drop) be parameters under their own names."""
    for module in list(net.modules()):
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)


def _safetensors(
    net: nn.Module, interface: GraphInterface, note: str, packed: bool = False, int8: bool = False
) -> tuple[bytes, Callable[[Inputs], Inputs]]:
    """The file with the weights of `net`, each once, and which names stand for which others (tied weights).

    packed: see `gatelab.core.compression`. `net` then gets the weights that were written.
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
    graph = _as_graph(net, interface)
    return content, lambda given: tuple(graph(*given))


def _use_exportable_core(net: Any, kind: str) -> bool:
    """Give `net` a core that a graph of this kind can hold; whether that leaves time free.

    ONNX knows the layers of torch.nn as one operation, over any number of steps. For any other graph the core is one
    whose steps are written out, for one of torch.nn the from-scratch one.
    """
    core: Any = getattr(net, "core", None)
    if core is None:
        return False
    layers = list(core.layers) if isinstance(core, Stack) else [core]
    free = kind == "onnx" and all(_is_plain(layer) for layer in layers)
    layers = [_as(OF_TORCH if free else {b: a for a, b in OF_TORCH.items()}, layer) for layer in layers]
    for layer in layers:
        if isinstance(layer, GRU):
            layer.backend = "reference"
    if isinstance(core, Stack):
        core.layers = nn.ModuleList(layers)
    else:
        net.core = layers[0]
    return free


class SteppedGRU(GRU):
    """A GRU that is traced step by step: within the one operation that ONNX has for it, nothing is quantised."""

    _run, _run_backward = Recurrent._run, Recurrent._run_backward  # type: ignore[assignment]  # not by a backend

    def _step(self, i: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None) -> State:
        return (gru_step_after(i, state[0], w_hh, b_hh),)


def _write_steps_out(net: nn.Module, plain: type[GRU]) -> None:
    """Have every recurrent layer of `net` compute step by step in plain operations; `plain`: the class of a plain GRU
    from then on."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            layer = _as({b: a for a, b in OF_TORCH.items()}, child)
            if _is_plain(layer):
                layer = _as({GRU: plain}, layer)
            setattr(module, name, layer)
            if isinstance(layer, GRU):
                layer.backend = "reference"


def _is_plain(layer: Any) -> bool:
    """Whether torch.nn has a layer that does the same."""
    if isinstance(layer, GRU) and not (layer.reset_after and not layer.zoneout and not layer.layer_norm):
        return False
    return type(layer) in (*OF_TORCH, *OF_TORCH.values())


def _as(kinds: Mapping[type[nn.Module], Callable[..., nn.Module]], core: nn.Module) -> nn.Module:
    """The layer that `kinds` has for one like `core`, with its weights; `core` itself if there is none."""
    if type(core) not in kinds:
        return core
    names = ["input_size", "hidden_size", "num_layers", "bias", "bidirectional"]
    names += ["nonlinearity"] if isinstance(core, RNN | TorchRNN) else []
    layer = kinds[type(core)](**{name: getattr(core, name) for name in names})
    layer.load_state_dict(core.state_dict())
    return layer.eval()


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


def _free(names: Mapping[str, tuple[int | str, ...]]) -> dict[str, dict[int, str]]:
    return {name: {i: d for i, d in enumerate(shape) if isinstance(d, str)} for name, shape in names.items()}


def onnx_graph(
    graph: Graph, inputs: Inputs, interface: GraphInterface, note: str
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

    Weights get a scale for each output; what they multiply is rounded to 8 bits by its own range at each step.
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
            )
        finally:
            logging.disable(logging.NOTSET)
        content = file.read_bytes()
    return content, _onnx_runtime(content, interface)


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

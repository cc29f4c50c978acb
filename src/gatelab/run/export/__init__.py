"""Write a run's network as a file that needs no Gatelab: safetensors (weights), ONNX or torch.export (the graph).

Every file is read back and its outputs are compared with the run's own before it gets its name: safetensors bit
for bit, the graphs within `TOLERANCE`. State is an input and an output, and the batch is free. Time is free too in
ONNX for the layers that ONNX has, and in torch.export for a language model; other graphs walk a fixed number of
steps one by one, which is also how a single step is fastest.

Weights can be pruned and rounded on the way (`gatelab.core.weights.compression`); the run is then scored with its own
weights and with those, and what was written is compared with these. With int8 an ONNX graph also computes in int8: the
products of ONNX Runtime's dynamic quantisation, which rounds what it multiplies as well.

Letters: T time, B batch, C channels, P horizon, K targets, V vocabulary.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from gatelab.core.weights.compression import prune as prune_weights
from gatelab.core.weights.compression import round_matrices
from gatelab.data.files import atomic_write_bytes
from gatelab.run import RequestError, RunFailed
from gatelab.run.build import build_task, request_errors
from gatelab.run.export.cores import use_exportable_core, write_steps_out
from gatelab.run.export.files import (
    Inputs,
    as_graph,
    int8_graph,
    onnx_graph,
    plain_weights,
    safetensors_file,
    torch_export,
)
from gatelab.run.load import LoadedRun, load_task
from gatelab.run.record.directory import inside
from gatelab.run.record.outputs import check_output
from gatelab.run.scoring.evaluate import Device, device_of, score
from gatelab.tasks.contract import GraphInterface

TOLERANCE = 1e-5
"""Largest difference of an output of a graph from the run's own, relative to the largest output (at least 1)."""
INT8_TOLERANCE = 0.1
"""The same of a graph in int8, which rounds what it multiplies: it was compared before that, so this finds no more than
a graph that went wrong. What the rounding costs, the metric says."""
ENDINGS = {"safetensors": "safetensors", "onnx": "onnx", "torch-export": "pt2"}


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
    part: str | None = None,
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
        part: a part of the network that its task names (`Task.graph_parts`), a translator's `encoder` or `step`, say;
            None: the whole.
        prune: the share of the weights of all matrices that is set to zero; int8: round them, see
            `gatelab.core.weights.compression`. Both are scored on the validation split, which is read for it.
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
    target = _target(loaded, "model" if part is None else f"model-{part}", kind, output, force)
    note = json.dumps({key: loaded.record[key] for key in ("identity", "config", "spec")})
    with request_errors("export"):
        interface = _interface(loaded.task, kind, part)
    if steps is not None and steps % interface.multiple:
        raise RequestError(
            f"--steps {steps}: the network reads {interface.multiple} steps of its input at once, and the rest of "
            f"{steps} would be lost; give a multiple of {interface.multiple}."
        )
    before = scores(loaded, test) if compressed else {}
    fresh: Any = build_task(loaded.config, loaded.task.spec)
    net = fresh.net.eval()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.load_state_dict(loaded.task.net.state_dict())
        plain_weights(net)
        size = len(safetensors_file(net, interface, note)[0])
        if prune is not None:
            prune_weights(net, prune)
        if compressed:  # from here on the run's own outputs are those of these weights
            loaded.task.net = copy.deepcopy(net)
        if kind == "safetensors":
            if int8:
                round_matrices(loaded.task.net)
            content, run = safetensors_file(net, interface, note, compressed, int8)
            fixed, tolerance = 0, 0.0
        else:
            free = not int8 and (
                use_exportable_core(net, kind) or (kind == "torch-export" and interface.free_time)
            )
            if interface.fixed_time or int8:
                write_steps_out(net, quantised=int8)
                free = False
            fixed, tolerance = steps or (0 if free else interface.steps), TOLERANCE
            interface = _with_time(interface, fixed)
            inputs = _example(loaded.task, interface)(2, fixed or interface.usual_steps)
            content, run = _written(kind, as_graph(net, interface).eval(), inputs, interface, note)
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
        graph = run if int8 and kind == "onnx" else None
        written.prune, written.int8, written.bytes_before = prune, int8, size
        written.monitor = loaded.task.monitor.removeprefix("val/")
        written.scored, after = scores_of_export(loaded, test, graph, fixed)
        written.cost = cost(before, after)
    atomic_write_bytes(target, content)
    return written


def _interface(task: Any, kind: str, part: str | None) -> GraphInterface:
    """The graph of the task's network or of its part; raises ValueError or RequestError where there is none."""
    if part is None:
        return cast(GraphInterface, task.graph())
    if kind == "safetensors":
        raise RequestError(f"--part {part}: is for graphs; give --format onnx or torch-export.")
    parts = task.graph_parts()
    if part not in parts:
        known = f"its parts are {', '.join(parts)}" if parts else "it has no parts; leave --part out"
        raise RequestError(f"--part {part}: {type(task).__name__} has none of that name: {known}.")
    return cast(GraphInterface, parts[part])


def _example(task: Any, interface: GraphInterface) -> Callable[[int, int], Inputs]:
    return interface.example or cast(Callable[[int, int], Inputs], task.example_input)


def _target(loaded: LoadedRun, name: str, kind: str, output: str | Path | None, force: bool) -> Path:
    """The file to write; raises as `export`."""
    own = loaded.run.path / "export" / f"{name}.{ENDINGS[kind]}"
    target = Path(output) if output is not None else inside(loaded.run.path, own)
    if target.exists() and not force:
        raise RequestError(f"{target}: exists already; --force replaces it, --output FILE writes elsewhere.")
    check_output(target, loaded.run.path)
    if target.exists() and target.suffix != f".{ENDINGS[kind]}":
        raise RequestError(
            f"--output {target}: is a file of another kind; let the name end in .{ENDINGS[kind]}."
        )
    return target


def _written(
    kind: str, graph: nn.Module, inputs: Inputs, interface: GraphInterface, note: str
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


def _difference(
    loaded: LoadedRun, run: Callable[[Inputs], Inputs], interface: GraphInterface, fixed: int
) -> tuple[float, float]:
    """Largest difference over a few shapes: absolute, and relative to the largest output (at least 1)."""
    usual = interface.usual_steps
    own = as_graph(loaded.task.net, interface)
    worst = (0.0, 0.0)
    for batch, steps in ((1, usual), (5, 2 * usual), (3, usual)):
        inputs = _example(loaded.task, interface)(batch, fixed or steps)
        for theirs, ours in zip(run(inputs), own(*inputs), strict=True):
            gap = float((theirs - ours).abs().max()) if theirs.shape == ours.shape else float("inf")
            scale = max(1.0, float(ours.abs().max()))
            worst = max(worst, (gap, gap / scale), key=lambda pair: pair[1])
    return worst


Scores = dict[str, dict[str, float]]
"""Split -> metric -> value."""


def scores(loaded: LoadedRun, test: bool, device: Device | None = None) -> Scores:
    """The metrics of the task as it is now on the validation split and, if asked for, on the test split.

    device: None: the one that the run was trained on.

    Raises:
        RequestError: the data are gone, have changed, or have no such split.
    """
    data, device = loaded.data, device or device_of(loaded.config)
    if test and "test" not in data.splits:
        raise RequestError("--test: this data has no test split.")
    found = {split: score(loaded.task, data, split, device=device) for split in ("valid", *["test"] * test)}
    loaded.task.cpu()
    return found


def scores_of_export(
    loaded: LoadedRun,
    test: bool,
    graph: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]] | None,
    steps: int,
) -> tuple[str, Scores]:
    """What was scored, "graph" or "weights", and the scores; the task has the exported weights, as float32.

    Args:
        graph: an exported graph that computes in int8, of `steps` steps; where the task cannot be scored through it,
            the rounded weights are, and the rounding of what they multiply is not in the figures.
    """
    if graph is None:
        return "weights", scores(loaded, test)
    with torch.inference_mode():
        through = loaded.task.use_graph(graph, steps)
        if not through:
            round_matrices(loaded.task.net)
    return ("graph", scores(loaded, test, ("cpu", 1))) if through else ("weights", scores(loaded, test))


def cost(before: Scores, after: Scores) -> dict[str, dict[str, dict[str, float]]]:
    """Split -> metric -> its value of the run, of what was exported, and the difference."""
    return {
        split: {
            name: {"run": value, "exported": (now := after[split][name]), "difference": now - value}
            for name, value in metrics.items()
            if name in after[split]
        }
        for split, metrics in before.items()
    }

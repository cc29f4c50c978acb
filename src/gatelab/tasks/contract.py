"""The contract between a task and the views: its metrics, a sample to look at, prediction, and a graph to export.

Every view (progress bar, trackers, closing summary, leaderboard, report, `predict`, `generate`, `export`, `eval`) asks
the task and draws the plain data below; none knows a task by name. Imports nothing heavy, so that views of records need
no PyTorch: what a task says of its metrics is kept in `run.json` (`Task.describe`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self

MOST_BEAM = 1000
"""Hypotheses of a search: each is a row of a batch."""


def check_beam(beam: int) -> None:
    """Raise ValueError unless an evaluation can search with so many hypotheses."""
    if not 1 <= beam <= MOST_BEAM:
        raise ValueError(f"beam must be 1 to {MOST_BEAM}, not {beam}")


@dataclass(frozen=True)
class Metric:
    """One number of an evaluation.

    Attributes:
        name: its key in results, e.g. `bpc`.
        title: in words, e.g. `bits per character`; unit: e.g. `nats per token`, or empty.
        better: "min" or "max"; None for a count or a check, which ranks nothing.
        format: for `format()`, e.g. `.3f`; empty: four to five significant digits.
        same: keys of the configuration; runs in which they differ cannot be compared by it.
    """

    name: str
    title: str = ""
    unit: str = ""
    better: Literal["min", "max"] | None = "min"
    format: str = ""
    same: Sequence[str] = ()

    @property
    def label(self) -> str:
        """The title with the unit, for an axis."""
        return (self.title or self.name.replace("_", " ")) + (f" ({self.unit})" if self.unit else "")


def recorded_metrics(record: Mapping[str, Any]) -> dict[str, Metric]:
    """The metrics that a run's record tells of, by name; none in a record of a version that kept none."""
    return {entry["name"]: Metric(**entry) for entry in record.get("task", {}).get("metrics", ())}


def metric_of(record: Mapping[str, Any], name: str) -> Metric:
    """The metric called `name` (with or without its split), as the record tells of it or by its name alone."""
    name = name.rpartition("/")[2]
    return recorded_metrics(record).get(name, Metric(name))


def recorded_label(record: Mapping[str, Any], name: str) -> str:
    """What an axis of the metric is called, or an empty string where the record does not tell."""
    name = name.rpartition("/")[2]
    return metric.label if (metric := recorded_metrics(record).get(name)) else ""


def not_comparable(name: str, same: Iterable[str], keys: Iterable[str]) -> str:
    """That the metric `name` does not compare runs that differ in `keys`, in a sentence; empty if it does."""
    found = [key for key in same if key in keys]
    return f"{name} does not compare runs of another {' or '.join(found)}." if found else ""


def best_of(metric: Metric, values: Iterable[tuple[str, float]]) -> tuple[str, float]:
    """The name and value of the best."""
    return (max if metric.better == "max" else min)(values, key=lambda pair: pair[1])


@dataclass(frozen=True)
class TextSample:
    """A text that the model wrote.

    Attributes:
        note: what it shows, in a sentence.
    """

    note: str
    text: str


class Band(NamedTuple):
    """A central interval around a forecast: how many percent of the truths it is to cover, and its two ends."""

    percent: int
    low: list[float]
    high: list[float]


class Window(NamedTuple):
    """A forecast beside the truth.

    Attributes:
        start: the step at which the forecast begins, on the axis that all windows share.
        past: the steps before `start`; future, forecast: from it on, equally long; no future where nobody knows it yet.
        times: of `past` and `forecast`, as text in ISO format; None where the steps have none.
        bands: intervals around the forecast, the widest first.
    """

    start: int
    past: list[float]
    future: list[float]
    forecast: list[float]
    times: list[str] | None = None
    bands: tuple[Band, ...] = ()


@dataclass(frozen=True)
class SeriesSample:
    """Forecasts of one series beside the truth.

    Attributes:
        label: of the values' axis, with the unit; steps: of the other axis.
    """

    note: str
    label: str
    steps: str
    windows: tuple[Window, ...]


@dataclass(frozen=True)
class TableSample:
    """Rows to read: an input, what was expected and what the model said, say."""

    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class CurveSample:
    """A figure at each of some steps, of the model and of what it is compared with.

    Attributes:
        label: of the figure's axis; steps: of the other axis, which counts from 1.
        curves: name -> the figure at each step, the model's first; equally long.
    """

    note: str
    label: str
    steps: str
    curves: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class HeatMap:
    """A matrix between texts, e.g. the weights of attention or the shares of a confusion matrix; none below 0.

    Attributes:
        values: values[row][column].
    """

    note: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]


Sample = TextSample | SeriesSample | TableSample | CurveSample | HeatMap


def as_text(sample: TextSample | TableSample | CurveSample | HeatMap) -> str:
    """The sample as plain text; a table with aligned columns."""
    if isinstance(sample, TextSample):
        return sample.text
    if isinstance(sample, HeatMap):
        named = zip(sample.rows, sample.values, strict=True)
        cells = tuple((name, *(f"{value:.2f}" for value in values)) for name, values in named)
        sample = TableSample(sample.note, ("", *sample.columns), cells)
    if isinstance(sample, CurveSample):
        steps = enumerate(zip(*sample.curves.values(), strict=True), 1)
        cells = tuple((str(step), *(f"{value:.4g}" for value in values)) for step, values in steps)
        sample = TableSample(sample.note, (sample.steps, *sample.curves), cells)
    rows = [sample.columns, *sample.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(sample.columns))]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in padded)


class TokenScores(NamedTuple):
    """Tokens of a scored text, some at a time, in order.

    Attributes:
        ids: of the tokens; texts: what each of them stands for; nll: of each given all before it, in nats.
    """

    ids: list[int]
    texts: list[str]
    nll: list[float]


@dataclass(frozen=True)
class Option:
    """An option of a way to score.

    Attributes:
        values: that it takes unless one is given; of several, the one that is best on the validation split.
        kind: int, float or str.
        least, most: of a number; `above`: it is more than `least`. choices: of a text.
    """

    values: tuple[Any, ...]
    kind: type = float
    least: float = 0.0
    most: float = math.inf
    above: bool = False
    choices: tuple[str, ...] = ()

    @property
    def wanted(self) -> str:
        """What it takes, in words."""
        if self.choices:
            return " or ".join(self.choices)
        number = "a whole number" if self.kind is int else "a number"
        most = "" if self.most == math.inf else f", at most {self.most:g}"
        return f"{number} {'above' if self.above else 'of at least'} {self.least:g}{most}"

    def check(self, value: Any) -> Any:
        """The value in its type.

        Raises:
            ValueError: it is none that the option takes; the message says what it takes.
        """
        if self.choices:
            good = value in self.choices
        else:
            number = isinstance(value, (int, self.kind)) and not isinstance(value, bool)
            good = number and self.least <= value <= self.most and math.isfinite(value)
            good = good and not (self.above and value == self.least)
        if not good:
            raise ValueError(f"give {self.wanted}, not {value!r}")
        return self.kind(value)


@dataclass(frozen=True)
class Method:
    """A way to score a split beside the static one: an evaluation row.

    Attributes:
        title: as a table calls it; what: what is done and by whom it is, in a sentence.
    """

    title: str
    what: str
    options: Mapping[str, Option]


@dataclass(frozen=True)
class ScoredRow:
    """One split scored by a `Method`.

    Attributes:
        metrics: as those of the static evaluation.
        parameters: what it was scored with.
        tuned: what was tuned: `split`, `tokens`, and `grid`, a list of parameters with their `loss`; None: nothing.
    """

    metrics: dict[str, float]
    parameters: dict[str, Any]
    tuned: dict[str, Any] | None = None


class Remark(UserWarning):
    """Something to tell the user about a prediction, e.g. what the vocabulary lacks."""


def remark(file: Path, notes: Iterable[str]) -> None:
    """Tell what was found out about a file of new input, a remark each."""
    for note in notes:
        warnings.warn(f"{file}: {note}", Remark, stacklevel=3)


class RunSource(Protocol):
    """The run that a task is asked about."""

    @property
    def reader(self) -> Any:
        """The DataModule with the run's settings; nothing is read yet."""

    @property
    def data(self) -> Any:
        """The DataModule, set up with the data that the run was trained on."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that the DataModule published, or None."""


@dataclass(frozen=True)
class GraphInterface:
    """The network as a graph of tensors in and tensors out.

    Attributes:
        inputs: name -> shape, in order; a free dimension is "batch" or "time". The first is the input proper, the rest
            are the state, or further inputs of a network without one.
        outputs: likewise; the first is the output proper, the rest the state after, if there is one.
        steps: T of a graph that walks a fixed number of steps, unless asked for otherwise.
        usual_steps: T of the inputs that a graph is compared on.
        multiple: T is a multiple of it; what is left over would be read by nothing.
        free_time: whether `torch.export` can leave T free.
        pack: what makes of the inputs after the first the network's second argument; None: they are its state.
        fixed_time: whether the graph walks a fixed number of steps in every format.
        module: what makes the graph of the network: called with the inputs, it returns a tuple of the outputs; None:
            the network itself is it.
        example: as `Task.example_input`, which it stands for; None: that.
    """

    inputs: Mapping[str, tuple[int | str, ...]]
    outputs: Mapping[str, tuple[int | str, ...]]
    steps: int = 1
    usual_steps: int = 12
    multiple: int = 1
    free_time: bool = False
    pack: Callable[[Sequence[Any]], Any] | None = None
    fixed_time: bool = False
    module: Callable[[Any], Any] | None = None
    example: Callable[[int, int], tuple[Any, ...]] | None = None

    @classmethod
    def of_steps(
        cls,
        inputs: Mapping[str, tuple[int | str, ...]],
        outputs: Mapping[str, tuple[int | str, ...]],
        state: Mapping[str, Any],
        **options: Any,
    ) -> Self:
        """Return that of a network with a state: name -> an example of a part [L, B, ...], after: `NAME_after`."""
        shapes = {name: (part.shape[0], "batch", *part.shape[2:]) for name, part in state.items()}
        after = {f"{name}_after": shape for name, shape in shapes.items()}
        return cls({**inputs, **shapes}, {**outputs, **after}, **options)

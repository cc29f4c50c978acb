"""What the views and the commands may ask of a task beside training and scoring it.

Each method has a default that refuses or shows nothing, so that a task overrides what it can do and no view has to know
which task it asks. `run` is the run that the task is of; the plain data that are returned are those of `contract.py`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from gatelab.data.messages import Progress
from gatelab.tasks.contract import (
    GraphInterface,
    Method,
    Metric,
    RunSource,
    Sample,
    ScoredRow,
    TokenScores,
)
from gatelab.tasks.text.generation import Generation

if TYPE_CHECKING:
    import pandas as pd

    from gatelab.tasks.explanation.reading import Reading


class Views:
    """The part of a `Task` that its views ask.

    Attributes:
        figures: the task's metrics, the most telling first; methods: ways to score beside the static one, by name
            (`score_row`); takes_future: `predict` has a further argument, `future`: a file of what is known of what is
            to come.
    """

    figures: ClassVar[tuple[Metric, ...]]
    methods: ClassVar[Mapping[str, Method]] = {}
    takes_future: ClassVar[bool] = False

    def unlisted(self) -> dict[str, float]:
        """Return figures of the last evaluation in this process that no table lists, for `leaderboard_row`."""
        return {}

    def read_again(self, data: Any, split: str, metrics: Mapping[str, float]) -> bool:
        """Whether a split has to be scored again because `metrics` may depend on how it was read.

        `data` is a DataModule of the evaluation's own: change how it reads, and return True.
        """
        return False

    def score_row(
        self, method: str, options: Mapping[str, Sequence[Any]], data: Any, split: str, progress: Progress
    ) -> ScoredRow:
        """Score a split ("valid" or "test") by one of `methods`; the weights stay as they are.

        Args:
            options: for each of the method's, its values; of several, the best on the validation split is taken.
            data: a DataModule of the evaluation's own.

        Raises:
            ValueError: the network or the data cannot be scored so.
        """
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """What `run.json` keeps for views that do not build the task: `name`, `metrics`, `commands`."""
        metrics = [asdict(figure) for figure in self.figures]
        return {"name": type(self).__name__, "metrics": metrics, "commands": self.commands()}

    def commands(self) -> list[str]:
        """The commands that make sense after training, with RUN for the run's directory, the likeliest first."""
        return []

    def sample(self, run: RunSource) -> Sample | None:
        """Something to look at that the model does on the validation split, or by itself; None: nothing."""
        return None

    def samples(self, run: RunSource) -> Sequence[Sample]:
        """All that a report shows of the model: the sample, and more where the task has it."""
        shown = self.sample(run)
        return () if shown is None else (shown,)

    def predict(self, run: RunSource, file: Path) -> "pd.DataFrame":
        """Read new input from `file` and return what the model says to it, a row each.

        Raises:
            ValueError: the file does not fit, or the task does not predict.
        """
        raise ValueError(f"{type(self).__name__} does not predict on new input")

    def predicted(
        self, run: RunSource, file: Path, frame: "pd.DataFrame", future: Path | None = None
    ) -> Sequence[Sample]:
        """Return what `predict` made of `file` as something to look at; empty: nothing is drawn.

        future: what `predict` was given besides, see `takes_future`.
        """
        return ()

    def calibrate(self, data: Any) -> dict[str, Any]:
        """Return a calibration of the task's intervals on the validation split, as plain data.

        `data` is a DataModule of the calibration's own.

        Raises:
            ValueError: the task has no intervals.
        """
        raise ValueError(f"{type(self).__name__} has no intervals to calibrate")

    def use_calibration(self, plain: Mapping[str, Any]) -> None:
        """Have every interval from now on calibrated by what `calibrate` returned.

        Raises:
            ValueError: it is of another task.
        """
        raise ValueError(f"{type(self).__name__} has no intervals to calibrate")

    def backtest(
        self,
        windows: Sequence[Any],
        task_of: Callable[[int], tuple[Any, Any]],
        baselines: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Score rolling windows, as the DataModule's `rolling` and `rolling_baselines` give them.

        Args:
            task_of: the place of a window -> the task that answers it, and the window as that task's data have it.

        Returns:
            see `gatelab.tasks.series.backtest.backtest`; and `sample`, the windows as a picture shows them.

        Raises:
            ValueError: the task does not forecast.
        """
        raise ValueError(f"{type(self).__name__} does not forecast, so there is no rolling origin")

    def leaderboard_row(self, format: str, about: Any, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Return the task's `metrics` as a row of a public leaderboard, column -> value.

        format, about: see `gatelab.tasks.series.leaderboards`.

        Raises:
            ValueError: there is no such leaderboard of the task.
        """
        raise ValueError(f"{type(self).__name__} has no row of {format}")

    def generate(
        self, run: RunSource, prompt: str, options: Generation, show: Callable[[str], None] | None = None
    ) -> list[str]:
        """Return `options.n` times the prompt and its continuation.

        Args:
            prompt: text to continue; empty for the beginning of a stream.
            show: told the first text, from the prompt on, bit by bit as it is drawn.

        Raises:
            ValueError: the task does not generate text.
        """
        raise ValueError(f"{type(self).__name__} generates no text")

    def perplexity(
        self,
        run: RunSource,
        text: Iterable[bytes],
        *,
        window: int = 256,
        name: str = "the text",
        each: Callable[[TokenScores], None] | None = None,
    ) -> dict[str, float]:
        """Score a text as the task would score a split: every token once, the state carried from its beginning on.

        Args:
            text: its bytes, in pieces of any length.
            window: steps that are scored at once; no figure depends on it.
            name: of the text, in errors.
            each: told the scores of the tokens, some at a time.

        Raises:
            ValueError: the task is no language model, or cannot read the text.
        """
        raise ValueError(f"{type(self).__name__} is no language model: it gives no text a perplexity")

    def reading(self, run: RunSource, file: Path | None = None) -> "Reading":
        """What the network reads of the validation split, or of `file`, with what `gatelab explain` asks of it.

        Raises:
            ValueError: the file does not fit, or the task has no recurrent core to show.
        """
        raise ValueError(f"{type(self).__name__} does not say what its network reads (`reading`)")

    def graph(self) -> GraphInterface:
        """Names and shapes of the network's inputs and outputs, for `gatelab export`.

        Raises:
            ValueError: the network is not a graph of tensors.
        """
        raise ValueError(f"{type(self).__name__} does not say what its network's inputs are (`graph`)")

    def graph_parts(self) -> Mapping[str, GraphInterface]:
        """Parts of the network that are graphs by themselves, for `gatelab export --part`; none as a rule."""
        return {}

    def example_input(self, batch: int, steps: int) -> tuple[Tensor, ...]:
        """Inputs as `graph` names them, the same ones at each call; a state is one that the network reached itself."""
        raise NotImplementedError

    def use_graph(self, run: Callable[[Sequence[Tensor]], Sequence[Tensor]], steps: int) -> bool:
        """Have every answer from now on computed by an exported graph; whether the task can be scored so.

        Args:
            run: the graph, with the inputs and outputs that `graph` names.
            steps: T that it walks, which is fixed.
        """
        return False

"""Forecasting: a window of the past in, all steps of the horizon out, errors on both scales.

A network with an `output` (`gatelab.core.series.outputs`) other than a point brings its own objective; its
median is what the metrics of points score.

The network is trained on standardised series; errors are summed per horizon step and channel in float64 and
divided once (`ForecastError`; where the network gives a distribution, `QuantileError` too). Nothing is carried between
batches.

Letters: B windows, Lb look-back, C channels, P horizon, K target channels.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core.series.covariates import Covariates
from gatelab.core.series.cycle import cycle_of
from gatelab.core.series.outputs import Output, Point
from gatelab.data.messages import Progress
from gatelab.data.series.rolling import RollingWindow
from gatelab.data.series.scores import INTERVALS, SCORED_LEVELS
from gatelab.data.specs import SeriesBatch, SeriesSpec
from gatelab.tasks.base import Task, TaskOptions
from gatelab.tasks.contract import (
    GraphInterface,
    Method,
    Metric,
    RunSource,
    Sample,
    ScoredRow,
    SeriesSample,
    Window,
)
from gatelab.tasks.distillation import Teacher
from gatelab.tasks.explanation.reading import Reading
from gatelab.tasks.metrics import ForecastError, overall_weighted_average
from gatelab.tasks.series.backtest import Answer, backtest, in_parts
from gatelab.tasks.series.conformal import Conformal, fit_conformal
from gatelab.tasks.series.cycles import check_cycle, cycle_samples
from gatelab.tasks.series.graph import Windowed, forecast_graph, forecast_inputs
from gatelab.tasks.series.leaderboards import leaderboard_row
from gatelab.tasks.series.new_rows import forecast_panel, forecast_table
from gatelab.tasks.series.quantile_metrics import DISTRIBUTION_FIGURES, QuantileError
from gatelab.tasks.series.reading import read_windows
from gatelab.tasks.series.samples import error_samples, predicted_samples, predicted_series, shown_window

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_WINDOWS = 3
TRAJECTORIES = 500
"""Drawn for the quantiles of a recursive decoder."""
WINDOWS_DRAWN = 8192
"""Values of the future drawn at once, each so many times: `torch.quantile` takes 16 million numbers."""
LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "huber": F.smooth_l1_loss,
}


class ForecastTask(Task):
    """Train and evaluate a `gatelab.core.Forecaster` (or any net from [B, Lb, C] to [B, P, K]).

    Args:
        loss: the objective of a point forecast on the standardised scale: squared, absolute, or Huber with its corner
            at 1. A distribution has its own, in nats or as quantile loss.

    The other arguments are those of `Task`. Metrics: `mse`, `mae` (standardised), `mse_original`,
    `mae_original`, `mase`, `smape` (percent), `nd`, `windows`; `filled` where targets were not measured but filled in,
    which are left out of the objective and of all metrics; `owa` on a test split that has a reference (M4). A network
    with a distribution (`net.output`) has those of `QuantileError` too.
    """

    spec_type: ClassVar[type[SeriesSpec]] = SeriesSpec
    unit: ClassVar[str] = "windows"
    figures = (
        Metric("mse", "mean squared error", "standardised"),
        Metric("mae", "mean absolute error", "standardised"),
        Metric("mse_original", "mean squared error", "original units"),
        Metric("mae_original", "mean absolute error", "original units"),
        Metric("mase", "mean absolute scaled error"),
        Metric("smape", "symmetric mean absolute percentage error", "percent"),
        Metric("nd", "normalised deviation"),
        Metric("owa", "overall weighted average, Naive2 = 1"),
        Metric("sql", "scaled quantile loss"),
        Metric("wql", "weighted quantile loss"),
        Metric("crps", "continuous ranked probability score", "original units"),
        Metric("msis", "mean scaled interval score"),
        *(Metric(f"coverage_{p}", f"coverage of the {p} % interval", better=None) for p in INTERVALS),
        Metric("windows", "scored windows", better=None),
        Metric("filled", "targets filled in, left out", "percent", better=None),
    )
    methods: ClassVar[Mapping[str, Method]] = {
        "conformal": Method(
            "conformal intervals",
            "The quantiles are moved by the errors on the validation split, per horizon step, so that intervals cover "
            "what they say as far as both splits are alike (Romano et al. 2019, arXiv:1905.03222).",
            {},
        )
    }
    takes_future = True
    taught_by = (
        *("channels", "targets", "lookback", "horizon", "mean", "std", "series"),
        *("known", "known_codes", "static", "static_codes", "scales", "words"),
    )
    metric: ForecastError

    def __init__(
        self, net: nn.Module, *, loss: Literal["mse", "mae", "huber"] = "mse", **options: Unpack[TaskOptions]
    ) -> None:
        super().__init__(net, **options)
        spec: SeriesSpec = options["spec"]
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {sorted(LOSSES)}, not {loss!r}")
        if self.output.is_distribution and loss != "mse":
            raise ValueError(
                f"loss={loss} is for point forecasts; net.output={self.output.name} has its own objective: leave it out"
            )
        if self.teacher is not None:
            self._check_teacher(self.teacher, options)
        moved = spec.scaled if spec.series else any(spec.mean) or any(std != 1 for std in spec.std)
        if moved and not self.output.has_location:
            raise ValueError(
                f"net.output={self.output.name} needs counts as they are, but these data are scaled; "
                "data=panel data.scaling=none leaves them, net.output=quantiles takes scaled ones"
            )
        self.loss = loss
        self.scales: dict[str, Any] = {
            "mean": [spec.mean[i] for i in spec.target_index],
            "std": [spec.std[i] for i in spec.target_index],
            "mase_scale": list(spec.mase_scale),
            "horizon": spec.horizon,
        }
        self.metric = ForecastError(**self.scales, series=spec.series)
        self.calibration: Conformal | None = None
        self.quantile_metric: QuantileError | None = None
        if self.distribution is not None:
            self.quantile_metric = QuantileError(SCORED_LEVELS, **self.scales)
        elif self.monitor.removeprefix("val/") in DISTRIBUTION_FIGURES:
            raise ValueError(
                f"monitor={self.monitor}: the network gives points, which have no such score; take val/mae, or a "
                "network with a distribution"
            )

    def _check_teacher(self, teacher: Teacher, options: TaskOptions) -> None:
        """Raise ValueError unless both give points: a forecast is learnt by regression to the teacher's."""
        for whose, task in (("the run", self), ("the teacher", teacher.task)):
            if task.output.is_distribution:
                raise ValueError(
                    f"teacher: {whose} has net.output={task.output.name}; only points are learnt"
                )
        if options.get("temperature") is not None:
            raise ValueError(
                "temperature: softens probabilities, and a forecast of points has none; leave it out"
            )

    @property
    def distribution(self) -> Output | None:
        """The network's output where it gives a distribution, else None."""
        return self.output if self.output.is_distribution else None

    @classmethod
    def why_without(cls, metric: str, spec: SeriesSpec) -> str | None:
        """A metric that these data do not have; see `Task`."""
        if metric in ("val/mase", "val/sql", "val/msis") and not any(spec.mase_scale):
            name = metric.removeprefix("val/").upper()
            return f"no target has a {name} (the notes on the data say why); take val/mae"
        return None

    @classmethod
    def build_net(
        cls, net: Callable[..., nn.Module], core: Callable[..., nn.Module], spec: SeriesSpec
    ) -> nn.Module:
        """Call the network's factory with what the spec says about channels, horizon and targets."""
        covariates = {
            "known": len(spec.known),
            "known_codes": list(spec.known_codes.values()),
            "static": len(spec.static),
            "static_codes": list(spec.static_codes.values()),
        }
        made = net(
            channels=len(spec.channels),
            horizon=spec.horizon,
            targets=list(spec.target_index),
            core=core,
            **{name: value for name, value in covariates.items() if value},
        )
        if spec.lookback % (patch := getattr(made, "patch", 1)):
            raise ValueError(f"task.net.patch={patch} does not divide the look-back of {spec.lookback} steps")
        check_cycle(made, spec)
        return made

    @property
    def output(self) -> Output:
        """What the network's numbers mean; a network that does not tell gives points."""
        return getattr(self.net, "output", None) or Point()

    def parameters_of(self, batch: SeriesBatch, **options: Any) -> Tensor:
        """Call the network on a batch: [B, P, K] or, of a distribution, its parameters [B, P, K, n]."""
        covariates = self._covariates(batch)
        if any(part is not None for part in covariates):
            options["covariates"] = covariates
        parameters: Tensor = self.net(batch.past, **options)
        return parameters

    def _covariates(self, batch: SeriesBatch) -> Covariates:
        """What a window has beside its values; where it starts only for a network with a cycle."""
        found = Covariates(*(getattr(batch, name) for name in Covariates._fields))
        return found if cycle_of(self.net) is not None else found._replace(start=None)

    def quantiles(
        self, batch: SeriesBatch, levels: Sequence[float], parameters: Tensor | None = None
    ) -> Tensor:
        """Quantiles of a batch by the network alone, scaled: [B, P, K, Q]; of a point forecast the point.

        Of a recursive decoder they are those of drawn trajectories, the same ones every time. `parameters` are those of
        the batch, if they are there already.
        """
        net: Any = self.net
        if not getattr(net, "teacher_forcing", False):
            found = self.parameters_of(batch) if parameters is None else parameters
            if not self.output.is_distribution:
                return found[..., None].expand(*found.shape, len(levels))
            return self.output.quantiles(found, levels)
        generator = torch.Generator(batch.past.device).manual_seed(0)
        at = torch.tensor(levels, dtype=batch.past.dtype, device=batch.past.device)
        size = max(1, WINDOWS_DRAWN // (self.spec.horizon * len(self.spec.targets)))
        parts = []
        for start in range(0, len(batch.past), size):
            past, *given = (
                None if part is None else part[start : start + size]
                for part in (batch.past, *self._covariates(batch))
            )
            drawn = net.trajectories(past, Covariates(*given), TRAJECTORIES, generator)
            parts.append(drawn.quantile(at, dim=0).movedim(0, -1))
        return torch.cat(parts)

    def count(self, batch: SeriesBatch) -> int:
        """Return the batch's windows."""
        return len(batch.past)

    def train_loss(self, batch: SeriesBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the objective (a mean), its sum over all values of the batch, and their number."""
        said = self._taught(batch)
        objective = total = self._losses(said, batch.future, batch.scored).sum()
        scored = torch.ones_like(batch.future, dtype=torch.bool) if batch.scored is None else batch.scored
        count = scored.sum()
        if self.teacher is not None:
            with torch.no_grad():
                told = self.teacher.task.parameters_of(batch)
            objective = self.teacher.mixed(total, self._losses(said, told, batch.scored).sum())
        return objective / self.mean_count(count), total, count

    def _taught(self, batch: SeriesBatch) -> Tensor:
        """What the network says in training, where a recursive decoder sees the truth of the steps before."""
        truth = {"future": batch.future} if getattr(self.net, "teacher_forcing", False) else {}
        return self.parameters_of(batch, **truth)

    def _losses(self, said: Tensor, future: Tensor, scored: Tensor | None) -> Tensor:
        """The loss of every value [B, P, K], 0 where it is not scored."""
        if scored is not None:  # replaced, since 0 times the gradient of an endless loss is no number
            future = future.masked_fill(~scored, 0.0)
        if self.output.is_distribution:
            losses = self.output.loss(said, future)
        else:
            losses = LOSSES[self.loss](said, future, reduction="none")
        return losses if scored is None else losses * scored

    def window_losses(self, batch: SeriesBatch) -> Tensor:
        """The loss of each window [B], as it is trained on."""
        each = self._losses(self._taught(batch), batch.future, batch.scored).flatten(1)
        return (
            each.mean(1)
            if batch.scored is None
            else each.sum(1) / batch.scored.flatten(1).sum(1).clamp(min=1)
        )

    def eval_step(self, batch: SeriesBatch) -> None:
        """Forecast a batch of windows and add up the errors."""
        self.add(batch, self.answer(batch))

    def answer(self, batch: SeriesBatch) -> Answer:
        """What the forecaster says to a batch of windows, calibrated where it was calibrated."""
        parameters = self.parameters_of(batch)
        point = self.output.point(parameters)

        def own(levels: Sequence[float]) -> Tensor:
            return self.quantiles(batch, levels, parameters)

        if self.calibration is not None:
            return Answer(point, self.calibration.quantiles(own, self.own_levels), None)
        if self.quantile_metric is None:
            return Answer(point, None, None)
        return Answer(point, own(self.quantile_metric.levels), self.output.crps(parameters, batch.future))

    def add(self, batch: SeriesBatch, answer: Answer) -> None:
        """Add up the errors of an answer to a batch."""
        self.metric.update(answer.point, batch.future, batch.scored, **batch.scales, series=batch.series)
        if self.quantile_metric is not None and answer.quantiles is not None:
            self.quantile_metric.update(
                answer.quantiles, batch.future, batch.scored, **batch.scales, crps=answer.crps
            )

    @property
    def own_levels(self) -> Sequence[float] | None:
        """The levels that the network itself answers: .5 alone for points, None for all of them."""
        return (0.5,) if self.distribution is None else None

    def calibrate(self, data: Any) -> dict[str, Any]:
        """Return a conformal calibration on the validation split, for `use_calibration` (conformal.py)."""

        def forecast(batch: SeriesBatch, levels: Sequence[float]) -> Tensor:
            return self.quantiles(self.on_device(batch), levels).cpu()

        with torch.inference_mode():
            return fit_conformal(forecast, data, self.own_levels).to_dict()

    def on_device(self, batch: SeriesBatch) -> SeriesBatch:
        """The batch where the network is."""
        return batch.each(lambda values: values.to(self.device))

    def use_calibration(self, plain: Mapping[str, Any]) -> None:
        """Have every quantile from now on calibrated by what `calibrate` returned."""
        self.calibration = Conformal.from_dict(plain, (self.spec.horizon, len(self.spec.targets)))
        self.quantile_metric = QuantileError(self.calibration.levels, **self.scales).to(self.device)

    def score_row(
        self, method: str, options: Mapping[str, Sequence[Any]], data: Any, split: str, progress: Progress
    ) -> ScoredRow:
        """Score a split with conformal intervals; see `Task.score_row`."""
        if split == "valid":
            raise ValueError(
                "the validation split calibrates, so its own coverage says nothing; give --split test"
            )
        before = self.calibration, self.quantile_metric
        tick = progress("conformal", self.spec.windows[split])
        try:
            self.use_calibration(self.calibrate(data))
            self.begin_eval("test")
            with torch.inference_mode():
                for batch in data.dataloader(split):
                    self.eval_step(self.on_device(batch))
                    tick(len(batch.past))
            figures = {name: float(value) for name, value in self.end_eval("test").items()}
            assert self.calibration is not None
            return ScoredRow(figures, {"windows": self.calibration.windows})
        finally:
            self.calibration, self.quantile_metric = before

    def begin_eval(self, split: str) -> None:
        """Forget the last evaluation; `split` is "val" or "test"."""
        super().begin_eval(split)
        if self.quantile_metric is not None:
            self.quantile_metric.reset()

    def end_eval(self, split: str) -> dict[str, Tensor]:
        """Return the evaluation's figures; a collective call under DDP."""
        figures = super().end_eval(split)
        if split == "test" and self.spec.reference and "mase" in figures:
            figures["owa"] = overall_weighted_average(figures["smape"], figures["mase"], self.spec.reference)
        if self.quantile_metric is not None:
            figures |= self.quantile_metric.compute()
        return figures

    def predict_step(self, batch: SeriesBatch, batch_idx: int) -> Tensor:
        """Return the standardised forecast [B, P, K], `original = forecast * std + mean`, or its parameters."""
        return self.parameters_of(batch)

    def unlisted(self) -> dict[str, float]:
        """Return `mape`, a fraction, which explodes where a truth is near zero."""
        return {"mape": self.metric.mape()}

    def backtest(
        self,
        windows: Sequence[Any],
        task_of: Callable[[int], tuple[Task, Any]],
        baselines: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Score rolling windows; see `Task.backtest`."""
        shown: list[Window] = []
        levels = None if self.quantile_metric is None else self.quantile_metric.levels
        places = {window.row: i for i, window in enumerate(windows)}

        def answer(window: RollingWindow) -> tuple[SeriesBatch, Answer]:
            task, own = task_of(places[window.row])
            assert isinstance(task, ForecastTask)
            # the seasonal error is that of the rows before the origin for all; the scale is the answering task's
            batch = own.batch._replace(mase_scale=window.batch.mase_scale)
            with torch.inference_mode():
                said = in_parts(task.answer, batch)
            shown.append(shown_window(window.row, batch, said, levels, self.spec))
            return batch, said

        report = backtest(windows, answer, self.scales, levels, baselines)
        note = f"{len(shown)} origins, {self.spec.horizon} steps ahead from {self.spec.lookback} steps of the past."
        label = f"{self.spec.targets[0]} (original units)"
        return {**report, "sample": SeriesSample(note, label, "row", tuple(shown))}

    def leaderboard_row(self, format: str, about: Any, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Return `metrics` as a row of fev or GIFT-Eval; see `leaderboards.py`."""
        return leaderboard_row(format, about, self.spec, metrics)

    # what the views ask for

    def commands(self) -> list[str]:
        """A forecaster goes on from a table."""
        return ["predict RUN --input FILE --output out.csv"]

    def sample(self, run: RunSource) -> SeriesSample | None:
        """Forecasts of the first target, windows that follow each other from the beginning of the validation split."""
        spec, data = self.spec, run.data
        if spec.horizon == 1:
            return None
        starts = range(0, min(data.spec.windows["valid"], SAMPLE_WINDOWS * spec.horizon), spec.horizon)
        shown = []
        for start in starts:
            window = self.window(data, "valid", start)
            past = window.past if start == 0 else []
            times = data.times("valid", start)
            shown.append(window._replace(past=past, times=times and times[-len(past) - spec.horizon :]))
        return SeriesSample(
            f"{len(shown)} windows of the validation split: {spec.horizon} steps ahead from {spec.lookback} steps of "
            "the past.",
            label=f"{spec.targets[0]} (original units)",
            steps="time" if shown[0].times else "steps of the validation split",
            windows=tuple(shown),
        )

    def window(self, data: Any, split: str, number: int, target: int = 0) -> Window:
        """A target in one window of a split as it is drawn, with its forecast."""
        place, row = divmod(number, data.eval_batch_size)
        batch = next(islice(data.dataloader(split), place, None)).each(itemgetter(slice(row, row + 1)))
        levels = None if self.quantile_metric is None else self.quantile_metric.levels
        with torch.inference_mode():
            return shown_window(number, batch, self.answer(batch), levels, self.spec, target)

    def samples(self, run: RunSource) -> Sequence[Sample]:
        """Windows, errors by horizon step, the worst series or targets, and the learnt cycle (samples.py)."""
        return [*super().samples(run), *error_samples(self, run.data), *cycle_samples(self.net, self.spec)]

    def predict(self, run: RunSource, file: Path, future: Path | None = None) -> "pd.DataFrame":
        """Forecast what comes after the last rows of a table or a panel, which is read as training reads its own.

        Args:
            file: CSV or Parquet with the run's channels and, if it was trained with one, its time column. Of a panel a
                long frame, of series that need not be those of training.
            future: a panel's covariates that are known of the steps to forecast; None: they stand below the history in
                `file`, in rows without a target.

        Returns:
            `horizon` rows (for each series), one column a target in original units, then its quantiles (`load_q0.1`)
            where the network gives a distribution or was calibrated; id and time continued, where there are such.

        Raises:
            ValueError: the table does not fit, or has another step.
        """
        if hasattr(run.reader, "panel_input"):
            return forecast_panel(self, run.reader, file, future)
        if future is not None:
            raise ValueError(f"--future {future}: the run has no data.known_future; leave it out")
        if hasattr(run.reader, "read_input"):
            return forecast_table(self, run.reader, file)
        raise ValueError(f"{type(run.reader).__name__} reads no tables; nothing can be forecast from {file}")

    def predicted(
        self, run: RunSource, file: Path, frame: "pd.DataFrame", future: Path | None = None
    ) -> list[SeriesSample]:
        """What `predict` made of a table or a panel, with the rows before it: a sample a target (of each series)."""
        if hasattr(run.reader, "panel_input"):
            return predicted_series(run.reader.panel_input(file, self.spec, future), frame, self.spec)
        series, _ = run.reader.read_input(file, self.spec)
        return predicted_samples(series, frame, self.spec)

    def reading(self, run: RunSource, file: Path | None = None) -> Reading:
        """Windows with the hour, the day of the week and the month as probes; see reading.py."""
        return read_windows(self, run, file)

    def graph(self) -> GraphInterface:
        """The past and a panel's covariates in, the forecast or its parameters out, all scaled; see graph.py."""
        return forecast_graph(self.spec, self.output, cycle_of(self.net) is not None)

    def example_input(self, batch: int, steps: int) -> tuple[Tensor, ...]:
        """Random inputs of the graph."""
        return forecast_inputs(self.spec, batch, steps, cycle_of(self.net) is not None)

    def use_graph(self, run: Callable[[Sequence[Tensor]], Sequence[Tensor]], steps: int) -> bool:
        """A graph of the look-back answers whole windows; not those of a panel, nor trajectories that are drawn."""
        whole = steps == self.spec.lookback and len(self.graph().inputs) == 1
        if whole and not getattr(self.net, "teacher_forcing", False):
            self.net = Windowed(run, self.output)
            return True
        return False

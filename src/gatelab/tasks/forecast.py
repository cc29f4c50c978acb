"""Forecasting: a window of the past in, all steps of the horizon out, errors on both scales.

A network with an `output` (`gatelab.core.series.outputs`) other than a point brings its own objective; its
median is what the metrics of points score.

The network is trained on standardised series; errors are summed per horizon step and channel in float64 and
divided once (`ForecastError`). Nothing is carried between batches.

Letters: B windows, Lb look-back, C channels, P horizon, K target channels.
"""

import warnings
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core.series.covariates import Covariates
from gatelab.core.series.outputs import Output, Point
from gatelab.data.specs import SeriesBatch, SeriesSpec
from gatelab.tasks.base import Task, TaskOptions
from gatelab.tasks.contract import GraphInterface, Metric, Remark, RunSource, SeriesSample, Window
from gatelab.tasks.metrics import ForecastError

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
    `mae_original`, `mase`, `smape` (percent), `windows`; `filled` where targets were not measured but filled in, which
    are left out of the objective and of all metrics.
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
        Metric("windows", "scored windows", better=None),
        Metric("filled", "targets filled in, left out", "percent", better=None),
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
        if not self.output.has_location and not spec.series:
            self._check_counts(torch.tensor(spec.mean), torch.tensor(spec.std))
        self.loss = loss
        self.metric = ForecastError(
            mean=[spec.mean[i] for i in spec.target_index],
            std=[spec.std[i] for i in spec.target_index],
            mase_scale=list(spec.mase_scale),
            horizon=spec.horizon,
        )

    @classmethod
    def why_without(cls, metric: str, spec: SeriesSpec) -> str | None:
        """A metric that these data do not have; see `Task`."""
        if metric == "val/mase" and not any(spec.mase_scale):
            return "no target has a MASE (the notes on the data say why); take val/mae"
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
        return net(
            channels=len(spec.channels),
            horizon=spec.horizon,
            targets=list(spec.target_index),
            core=core,
            **{name: value for name, value in covariates.items() if value},
        )

    @property
    def output(self) -> Output:
        """What the network's numbers mean; a network that does not tell gives points."""
        return getattr(self.net, "output", None) or Point()

    def parameters_of(self, batch: SeriesBatch, **options: Any) -> Tensor:
        """Call the network on a batch: [B, P, K] or, of a distribution, its parameters [B, P, K, n]."""
        covariates = Covariates(*(getattr(batch, name) for name in Covariates._fields))
        if any(part is not None for part in covariates):
            options["covariates"] = covariates
        parameters: Tensor = self.net(batch.past, **options)
        return parameters

    def quantiles(self, batch: SeriesBatch, levels: Sequence[float]) -> Tensor:
        """Quantiles of a batch, standardised: [B, P, K, Q].

        Of a recursive decoder they are those of drawn trajectories, the same ones every time.
        """
        net: Any = self.net
        if not getattr(net, "teacher_forcing", False):
            return self.output.quantiles(self.parameters_of(batch), levels)
        covariates = Covariates(*(getattr(batch, name) for name in Covariates._fields))
        generator = torch.Generator(batch.past.device).manual_seed(0)
        at = torch.tensor(levels, dtype=batch.past.dtype, device=batch.past.device)
        size = max(1, WINDOWS_DRAWN // (self.spec.horizon * len(self.spec.targets)))
        parts = []
        for start in range(0, len(batch.past), size):
            past, *given = (
                None if part is None else part[start : start + size] for part in (batch.past, *covariates)
            )
            drawn = net.trajectories(past, Covariates(*given), TRAJECTORIES, generator)
            parts.append(drawn.quantile(at, dim=0).movedim(0, -1))
        return torch.cat(parts)

    def _check_counts(self, level: Tensor, spread: Tensor) -> None:
        """Raise ValueError unless the data are as they were counted."""
        if level.any() or (spread != 1).any():
            raise ValueError(
                f"net.output={self.output.name} needs counts as they are, but these data are scaled; "
                "data=panel data.scaler=none leaves them, net.output=quantiles takes scaled ones"
            )

    def count(self, batch: SeriesBatch) -> int:
        """Return the batch's windows."""
        return len(batch.past)

    def train_loss(self, batch: SeriesBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the objective (a mean), its sum over all values of the batch, and their number."""
        if self.output.is_distribution:
            return self._likelihood(batch)
        forecast = self.parameters_of(batch)
        if batch.scored is None:
            total = LOSSES[self.loss](forecast, batch.future, reduction="sum")
            count = torch.tensor(batch.future.numel(), device=total.device)
        else:
            total = (LOSSES[self.loss](forecast, batch.future, reduction="none") * batch.scored).sum()
            count = batch.scored.sum()
        return total / self.mean_count(count), total, count

    def _likelihood(self, batch: SeriesBatch) -> tuple[Tensor, Tensor, Tensor]:
        """As `train_loss`, of a distribution."""
        if not self.output.has_location and batch.level is not None and batch.spread is not None:
            self._check_counts(batch.level, batch.spread)
        truth = getattr(self.net, "teacher_forcing", False)
        parameters = self.parameters_of(batch, **({"future": batch.future} if truth else {}))
        if batch.scored is None:
            losses, count = self.output.loss(parameters, batch.future), torch.tensor(batch.future.numel())
        else:  # what was not measured is replaced, since 0 times the gradient of an endless loss is no number
            future = batch.future.masked_fill(~batch.scored, 0.0)
            losses, count = self.output.loss(parameters, future) * batch.scored, batch.scored.sum()
        total, count = losses.sum(), count.to(losses.device)
        return total / self.mean_count(count), total, count

    def eval_step(self, batch: SeriesBatch) -> None:
        """Forecast a batch of windows and add up the errors."""
        point = self.output.point(self.parameters_of(batch))
        self.metric.update(point, batch.future, batch.scored)

    def predict_step(self, batch: SeriesBatch, batch_idx: int) -> Tensor:
        """Return the standardised forecast [B, P, K], `original = forecast * std + mean`, or its parameters."""
        return self.parameters_of(batch)

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
            past, future, forecast = self.window(data, start, 0, "valid")
            past = past[-2 * spec.horizon :] if start == 0 else []
            times = data.times("valid", start)
            kept = times and times[-len(past) - len(future) :]
            shown.append(Window(start, past, future, forecast, kept))
        return SeriesSample(
            f"{len(shown)} windows of the validation split: {spec.horizon} steps ahead from {spec.lookback} steps of "
            "the past.",
            label=f"{spec.targets[0]} (original units)",
            steps="time" if shown[0].times else "steps of the validation split",
            windows=tuple(shown),
        )

    def window(
        self, data: Any, number: int, target: int, split: str
    ) -> tuple[list[float], list[float], list[float]]:
        """Past [Lb], future [P] and forecast [P] of one target in one window of a split, in original units."""
        place, row = divmod(number, data.eval_batch_size)
        batch = next(islice(data.dataloader(split), place, None))
        with torch.inference_mode():
            own: Any = [None if part is None else part[row : row + 1] for part in batch]
            one = SeriesBatch(*own)
            forecast = self.output.point(self.parameters_of(one))[0]
        channel = self.spec.target_index[target]
        mean, std = self.spec.mean[channel], self.spec.std[channel]
        past, future = batch.past[row, :, channel], batch.future[row, :, target]
        return tuple((values * std + mean).tolist() for values in (past, future, forecast[:, target]))

    def predict(self, run: RunSource, file: Path) -> "pd.DataFrame":
        """Forecast what comes after the last row of a table, which is read as training reads its own.

        Args:
            file: CSV or Parquet with the run's channels and, if it was trained with one, its time column.

        Returns:
            `horizon` rows, one column a target in original units; of a distribution the median, and a column a quantile
            (`load_q0.1`). The time column continued, where there is one.

        Raises:
            ValueError: the table does not fit, or has another step.
        """
        import pandas as pd

        from gatelab.data.series.calendar import following, same_step

        spec = self.spec
        if not hasattr(run.reader, "read_input"):
            raise ValueError(
                f"{type(run.reader).__name__} reads no tables; nothing can be forecast from {file}"
            )
        series, time = run.reader.read_input(file, spec)
        for note in series.notes:
            warnings.warn(f"{file}: {note}", Remark, stacklevel=2)
        if spec.frequency and series.times is not None and not same_step(spec.frequency, series.frequency):
            raise ValueError(
                f"{file}: the step of its rows is {series.frequency or 'not regular'}, the run was trained on "
                f"{spec.frequency}; resample the table to {spec.frequency}, or train on its own step"
            )
        if len(series.values) < spec.lookback:
            raise ValueError(
                f"{file}: {len(series.values)} rows, but the run looks back over {spec.lookback}"
            )
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (spec.mean, spec.std))
        past = torch.from_numpy(series.values[-spec.lookback :].copy())
        index = list(spec.target_index)
        batch = SeriesBatch(((past - mean) / std)[None].float(), torch.empty(0))
        with torch.inference_mode():
            forecast = self.output.point(self.parameters_of(batch))[0].double()
            quantiles = self.quantiles(batch, self.output.levels)[0].double() if self.output.levels else None
        if not bool(forecast.isfinite().all()):
            raise ValueError(
                f"{file}: its last {spec.lookback} rows lead to no finite forecast; they hold values of up to "
                f"{float(past.abs().max()):.3g}, far from those of training"
            )
        out = pd.DataFrame((forecast * std[index] + mean[index]).numpy(), columns=list(spec.targets))
        if quantiles is not None:
            for k, target in enumerate(spec.targets):
                values = (quantiles[:, k] * std[index[k]] + mean[index[k]]).numpy()
                for q, level in enumerate(self.output.levels):
                    name = f"{target}_q{level:g}"
                    out.insert(k * (1 + len(self.output.levels)) + 1 + q, name, values[:, q])
        if time is not None and series.times is not None:
            if series.frequency:
                last = pd.Timestamp(series.times[-1])
                out.insert(0, time, following(last, series.frequency, spec.horizon, series.zone))
            else:
                warnings.warn(
                    f"{file}: no dates are written, since its rows have no regular step", Remark, stacklevel=2
                )
        return out

    def graph(self) -> GraphInterface:
        """Standardised past [B, T, C] in, standardised forecast [B, P, K] out, or the parameters [B, P, K, n] of one.

        Raises:
            ValueError: the network reads covariates, which a graph does not.
        """
        spec, output = self.spec, self.output
        if any((spec.known, spec.known_codes, spec.static, spec.static_codes)):
            raise ValueError("a network that reads covariates cannot be exported: a graph has the past alone")
        return GraphInterface(
            inputs={"past": ("batch", "time", len(self.spec.channels))},
            outputs={
                "forecast": (
                    *("batch", spec.horizon, len(spec.targets)),
                    *((output.size,) if output.is_distribution else ()),
                )
            },
            steps=self.spec.lookback,
            usual_steps=self.spec.lookback,
        )

    def example_input(self, batch: int, steps: int) -> tuple[Tensor, ...]:
        """Random series [batch, steps, C]."""
        generator = torch.Generator().manual_seed(batch * 1000 + steps)
        return (torch.randn(batch, steps, len(self.spec.channels), generator=generator),)

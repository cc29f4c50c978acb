"""Forecasting: a window of the past in, all steps of the horizon out, errors on both scales.

The network is trained on standardised series; errors are summed per horizon step and channel in float64 and
divided once (`ForecastError`). Nothing is carried between batches.

Letters: B windows, Lb look-back, C channels, P horizon, K target channels.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.data.specs import SeriesBatch, SeriesSpec
from gatelab.tasks.base import OptimizerFactory, ScheduleFactory, Task
from gatelab.tasks.metrics import ForecastError

LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "huber": F.smooth_l1_loss,
}


class ForecastTask(Task):
    """Train and evaluate a `gatelab.core.Forecaster` (or any net from [B, Lb, C] to [B, P, K]).

    Args:
        loss: the objective on the standardised scale: squared, absolute, or Huber with its corner at 1.

    The other arguments are those of `Task`. Metrics: `mse`, `mae` (standardised), `mse_original`,
    `mae_original`, `mase`, `smape` (percent), `windows`.
    """

    kind: ClassVar[str] = SeriesSpec.kind
    unit: ClassVar[str] = "windows"
    figures = ("mse", "mae", "mse_original", "mae_original", "mase", "smape", "windows")
    metric: ForecastError

    def __init__(
        self,
        net: nn.Module,
        *,
        spec: SeriesSpec,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory | None = None,
        hparams: dict[str, Any] | None = None,
        monitor: str = "val/mse",
        mode: Literal["min", "max"] = "min",
        seed: int = 0,
        loss: Literal["mse", "mae", "huber"] = "mse",
    ) -> None:
        super().__init__(
            net,
            spec=spec,
            optimizer=optimizer,
            schedule=schedule,
            hparams=hparams,
            monitor=monitor,
            mode=mode,
            seed=seed,
        )
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {sorted(LOSSES)}, not {loss!r}")
        self.loss = loss
        self.metric = ForecastError(
            mean=[spec.mean[i] for i in spec.target_index],
            std=[spec.std[i] for i in spec.target_index],
            mase_scale=list(spec.mase_scale),
            horizon=spec.horizon,
        )

    @classmethod
    def build_net(
        cls, net: Callable[..., nn.Module], core: Callable[..., nn.Module], spec: SeriesSpec
    ) -> nn.Module:
        """Call the network's factory with what the spec says about channels, horizon and targets."""
        return net(
            channels=len(spec.channels), horizon=spec.horizon, targets=list(spec.target_index), core=core
        )

    def count(self, batch: SeriesBatch) -> int:
        """Return the batch's windows."""
        return len(batch.past)

    def train_loss(self, batch: SeriesBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the objective (a mean), its sum over all values of the batch, and their number."""
        total = LOSSES[self.loss](self.net(batch.past), batch.future, reduction="sum")
        count = torch.tensor(batch.future.numel(), device=total.device)
        return total / self.mean_count(count), total, count

    def eval_step(self, batch: SeriesBatch) -> None:
        """Forecast a batch of windows and add up the errors."""
        self.metric.update(self.net(batch.past), batch.future)

    def predict_step(self, batch: SeriesBatch, batch_idx: int) -> Tensor:
        """Return the standardised forecast [B, P, K]; `original = forecast * std + mean`."""
        forecast: Tensor = self.net(batch.past)
        return forecast

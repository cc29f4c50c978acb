"""Metrics as sums and one division, in float64, reducible over processes.

Every class here keeps sums and counts as states that torchmetrics adds up over the processes, divides once in
`compute`, and returns all of its figures as a dictionary of float64 scalars. Nothing here averages averages,
and nothing weights by a batch size. What a *step* does with a batch belongs to the tasks.

Letters: P horizon, K target channels, N windows. NLL in nats.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from gatelab.data.messages import did_you_mean
from gatelab.data.series.scores import point_errors, point_fractions


def not_among(name: str, known: Sequence[str]) -> str:
    """That a metric is not among the known ones, with the nearest spelling, for a message."""
    return f"monitor={name!r} is not among the metrics: {', '.join(known)}.{did_you_mean(name, known)}"


class TokenLoss(Metric):
    """Negative log-likelihood of a token stream: nats per token, perplexity and bits.

    Args:
        characters_per_token: characters that one token stands for, on average over the scored text. 1 makes
            `bpc` bits per token, which is bits per character for a corpus of characters. None: the tokens do not give
            the text back, so there is no `bpc`.
        bits: what `bpc` is called: `bpb` where a token is a byte.

    `compute` returns `loss` (nats per token), `ppl` = exp(loss), `bpc` (bits per character, see above) and
    `tokens` (how many were scored). The sum and the count are taken over everything before the one division,
    so the figures do not depend on how the stream was cut into windows or shared among processes.
    """

    full_state_update = False
    higher_is_better = False
    nll: Tensor
    tokens: Tensor

    escape = 0.0
    """Nats per token, beside the model's own, that tell which character an unknown one is; part of `bpc` alone."""

    def __init__(self, characters_per_token: float | None = 1.0, *, bits: str = "bpc", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if characters_per_token is not None and not characters_per_token > 0:
            raise ValueError(f"characters_per_token must be positive, not {characters_per_token}")
        self.characters_per_token, self.bits = characters_per_token, bits
        self.add_state("nll", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, nll: Tensor, tokens: Tensor | int) -> None:
        """Add the summed NLL (nats) of `tokens` tokens."""
        self.nll += nll.to(torch.float64)
        self.tokens += tokens

    def compute(self) -> dict[str, Tensor]:
        """Return `loss`, `ppl`, `bpc`, `tokens` (float64 scalars); NaN when no token was scored."""
        loss, characters = self.nll / self.tokens, self.characters_per_token
        return {
            "loss": loss,
            "ppl": loss.exp(),
            **(
                {} if characters is None else {self.bits: (loss + self.escape) / (math.log(2.0) * characters)}
            ),
            "tokens": self.tokens.to(torch.float64),
        }


class ForecastError(Metric):
    """Errors of multi-horizon forecasts, on the scale of the network and in original units.

    Args:
        mean, std: of every target channel (length K), as the data's scaler used them: original = y * std +
            mean. Used for batches that do not bring a level and a spread of their own.
        mase_scale: per target channel, the training split's mean absolute seasonal difference in original
            units (Hyndman & Koehler 2006). A channel whose scale is zero (a constant one) has no MASE and is
            left out; `mase` is absent where all are.
        horizon: P.
        series: how many series there are, for `per_series`; 0: sums of each are not kept.

    `compute` returns the figures of `gatelab.data.series.scores` and `windows`. Targets that were filled in, not
    measured, are left out, and `filled` tells their share in percent.

    MASE and sMAPE divide each error by the scale of its own series first, so where every series has equally many
    windows (M4 has one) the figure is the mean over series of Makridakis et al. (2020). `nd` divides sum by sum, so
    large series weigh more. The sums are kept per horizon step and target ([P, K]), so `per_step` and `per_target` cost
    nothing more.
    """

    full_state_update = False
    higher_is_better = False
    SUMS = (
        "squared",
        "absolute",
        "squared_original",
        "absolute_original",
        "scaled",
        "relative",
        "ratio",
        "size",
    )
    COUNTS = ("scored", "defined", "nonzero")
    ratio: Tensor
    scored: Tensor
    nonzero: Tensor
    windows: Tensor
    of_series: Tensor
    mean: Tensor
    std: Tensor
    mase_scale: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        mase_scale: Sequence[float],
        horizon: int,
        series: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        k = len(mean)
        if len(std) != k or len(mase_scale) != k or k == 0:
            raise ValueError(
                f"mean, std and mase_scale need one entry per target, not {k}, {len(std)}, {len(mase_scale)}"
            )
        for name, values in (("mean", mean), ("std", std), ("mase_scale", mase_scale)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64), persistent=False)
        for names, kind in ((self.SUMS, torch.float64), (self.COUNTS, torch.int64)):
            for name in names:
                self.add_state(name, torch.zeros(horizon, k, dtype=kind), dist_reduce_fx="sum")
        self.add_state("windows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("of_series", torch.zeros(2, series, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        prediction: Tensor,
        future: Tensor,
        scored: Tensor | None = None,
        *,
        level: Tensor | None = None,
        spread: Tensor | None = None,
        mase_scale: Tensor | None = None,
        series: Tensor | None = None,
    ) -> None:
        """Add a batch of forecasts and truths, both [B, P, K] and scaled, but where `scored` is False.

        level, spread, mase_scale: [B, K], of each window's own series; None: those of the whole data. series: [B].
        """
        if prediction.shape != future.shape or prediction.shape[1:] != self.scored.shape:
            raise ValueError(
                f"prediction {list(prediction.shape)} and future {list(future.shape)} must both be "
                f"[B, {self.scored.shape[0]}, {self.scored.shape[1]}]"
            )
        scales = own_scales(self, level, spread, mase_scale)
        mask = torch.ones_like(future, dtype=torch.bool) if scored is None else scored
        errors = point_errors(prediction.to(torch.float64), future.to(torch.float64), mask, scales)
        for name, error in errors.items():
            setattr(self, name, getattr(self, name) + error.sum(0))
        self.windows += len(prediction)
        if series is not None and self.of_series.shape[1]:
            for place, name in enumerate(("scaled", "defined")):
                self.of_series[place].index_add_(0, series, errors[name].sum((1, 2)).to(torch.float64))

    def compute(self) -> dict[str, Tensor]:
        """Return the figures named above as float64 scalars; NaN when no window was scored."""
        windows = self.windows.to(torch.float64)
        filled = 1.0 - self.scored.sum() / (windows * self.scored.numel())
        return {
            **{name: top.sum() / below.sum() for name, (top, below) in self._fractions().items()},
            "windows": windows,
            **({"filled": 100 * filled} if filled > 0 else {}),
        }

    def _fractions(self) -> dict[str, tuple[Tensor, Tensor]]:
        sums = {name: getattr(self, name) for name in (*self.SUMS, *self.COUNTS)}
        found = point_fractions(sums)
        if not self.windows and (self.mase_scale > 0).any():
            found["mase"] = sums["scaled"], sums["defined"]
        return found

    def mape(self) -> float:
        """The mean of |error| / |truth| where the truth is not zero, as a fraction, in this process."""
        return float(self.ratio.sum() / self.nonzero.sum())

    def per_step(self) -> dict[str, list[float]]:
        """Return `mse`, `mae`, `mae_original`, `mase` and `nd` of every horizon step (length P) in this process."""
        return self._over(1)

    def per_target(self) -> dict[str, list[float]]:
        """Return `mse`, `mae`, `mae_original`, `mase` and `nd` of every target (length K) in this process."""
        return self._over(0)

    def per_series(self) -> list[float]:
        """Return the MASE of every series in this process; NaN where a series has none."""
        total, count = self.of_series
        return (total / count).tolist()

    def _over(self, axis: int) -> dict[str, list[float]]:
        found = self._fractions()
        names = [name for name in ("mse", "mae", "mase", "mae_original", "nd") if name in found]
        return {name: (found[name][0].sum(axis) / found[name][1].sum(axis)).tolist() for name in names}


def overall_weighted_average(smape: Any, mase: Any, reference: Mapping[str, float]) -> Any:
    """The OWA of the M4 competition: the mean of sMAPE and MASE, each relative to that of a reference.

    Makridakis et al. 2020, "The M4 competition"; their reference is Naive2 over the same test series.
    """
    return (smape / reference["smape"] + mase / reference["mase"]) / 2


def own_scales(
    metric: Any, level: Tensor | None, spread: Tensor | None, mase_scale: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Level, spread and seasonal error in float64, [B, 1, K] of each window, or [K] those of the whole data.

    `metric` has `mean`, `std` and `mase_scale` [K].
    """
    mean, std, mase = (
        getattr(metric, name) if own is None else own.to(torch.float64)[:, None]
        for name, own in (("mean", level), ("std", spread), ("mase_scale", mase_scale))
    )
    return mean, std, mase

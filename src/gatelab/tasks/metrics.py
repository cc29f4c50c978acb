"""Metrics as sums and one division, in float64, reducible over processes.

Every class here keeps sums and counts as states that torchmetrics adds up over the processes, divides once in
`compute`, and returns all of its figures as a dictionary of float64 scalars. Nothing here averages averages,
and nothing weights by a batch size. What a *step* does with a batch belongs to the tasks.

Letters: P horizon, K target channels, N windows. NLL in nats.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from gatelab.data.messages import did_you_mean


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
    """Errors of multi-horizon forecasts, on the standardised scale and in original units.

    Args:
        mean, std: of every target channel (length K), as the data's scaler used them: original = y * std +
            mean.
        mase_scale: per target channel, the training split's mean absolute seasonal difference in original
            units (Hyndman & Koehler 2006). A channel whose scale is zero (a constant one) has no MASE and is
            left out; `mase` is absent where all are.
        horizon: P.

    `compute` returns `mse`, `mae` (standardised), `mse_original`, `mae_original`, `mase`, `smape` (percent,
    in [0, 200]; a pair of zeros counts as no error) and `windows`. All are means over windows, horizon and
    channels. Where targets were filled in, not measured, they are left out and `filled` tells their share in percent.
    The sums are kept per horizon step and channel ([P, K]), so `per_step` and `per_target` cost
    nothing more.
    """

    full_state_update = False
    higher_is_better = False
    squared: Tensor
    absolute: Tensor
    relative: Tensor
    windows: Tensor
    filled: Tensor
    mean: Tensor
    std: Tensor
    mase_scale: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        mase_scale: Sequence[float],
        horizon: int,
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
        for name in ("squared", "absolute", "relative"):
            zeros = torch.zeros(horizon, k, dtype=torch.float64)
            self.add_state(name, zeros, dist_reduce_fx="sum")
        self.add_state("windows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("filled", torch.zeros(horizon, k, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, future: Tensor, scored: Tensor | None = None) -> None:
        """Add a batch of forecasts and truths, both [B, P, K] and standardised, but where `scored` is False."""
        if prediction.shape != future.shape or prediction.shape[1:] != self.squared.shape:
            raise ValueError(
                f"prediction {list(prediction.shape)} and future {list(future.shape)} must both be "
                f"[B, {self.squared.shape[0]}, {self.squared.shape[1]}]"
            )
        forecast, truth = prediction.to(torch.float64), future.to(torch.float64)
        error = forecast - truth
        if scored is not None:
            error = error * scored
            self.filled += (~scored).sum(0)
        self.squared += error.square().sum(0)
        self.absolute += error.abs().sum(0)
        size = (forecast * self.std + self.mean).abs() + (truth * self.std + self.mean).abs()
        distance = (error * self.std).abs()
        self.relative += torch.where(size > 0, 200.0 * distance / size, 0.0).sum(0)
        self.windows += len(prediction)

    def compute(self) -> dict[str, Tensor]:
        """Return the figures named above as float64 scalars; NaN when no window was scored."""
        windows = self.windows.to(torch.float64)
        filled, defined = self.filled.to(torch.float64), self.mase_scale > 0
        count = (
            windows - filled.mean()
        )  # scored values of a step and channel, on average: a sum and one division
        squared, absolute = self.squared / count, self.absolute / count
        original = absolute.mean(0) * self.std
        scaled = (self.absolute / (windows - filled[:, defined].mean())).mean(0) * self.std / self.mase_scale
        share = {"filled": 100 * filled.mean() / windows} if filled.any() else {}
        return {
            "mse": squared.mean(),
            "mae": absolute.mean(),
            "mse_original": (squared * self.std.square()).mean(),
            "mae_original": original.mean(),
            **({"mase": scaled[defined].mean()} if defined.any() else {}),
            "smape": (self.relative / count).mean(),
            "windows": windows,
            **share,
        }

    def per_step(self) -> dict[str, list[float]]:
        """Return the standardised `mse` and `mae` of every horizon step (length P) in this process."""
        return {
            "mse": (self.squared / self._scored(1)).mean(1).tolist(),
            "mae": (self.absolute / self._scored(1)).mean(1).tolist(),
        }

    def per_target(self) -> dict[str, list[float]]:
        """Return the standardised `mse` and `mae` of every target (length K) in this process."""
        return {
            "mse": (self.squared / self._scored(0)).mean(0).tolist(),
            "mae": (self.absolute / self._scored(0)).mean(0).tolist(),
        }

    def _scored(self, axis: int) -> Tensor:
        """The windows of which a value was scored, on average over an axis of [P, K]."""
        return self.windows - self.filled.to(torch.float64).mean(axis, keepdim=True)

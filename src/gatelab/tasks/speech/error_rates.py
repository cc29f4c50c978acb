"""Word, character and sentence error rates as sums of edits and one division."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from gatelab.data.audio.edit_distance import errors_of

SUMS = ("word_errors", "words", "character_errors", "characters", "wrong")


class ErrorRates(Metric):
    """Errors of transcripts, and the loss of CTC.

    `compute` returns float64 scalars: `wer`, `cer`: edits of words and of characters in percent of those of the true
    transcripts (more than 100 where too much is said); `ser`: transcripts with any error, in percent; `loss`: nats per
    symbol; `words`: of the true transcripts.
    """

    full_state_update = False
    counts: Tensor
    utterances: Tensor
    symbols: Tensor
    nll: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("counts", torch.zeros(len(SUMS), dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("utterances", "symbols"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("nll", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, said: Sequence[str], truth: Sequence[str], nll: Tensor, symbols: Tensor) -> None:
        """Add transcripts beside the true ones, and the summed NLL (nats) of so many symbols."""
        errors = (errors_of(*pair) for pair in zip(said, truth, strict=True))
        self.counts += torch.tensor([[each[name] for name in SUMS] for each in errors]).sum(0).to(self.counts)
        self.utterances += len(truth)
        self.nll += nll.to(torch.float64)
        self.symbols += symbols

    def compute(self) -> dict[str, Tensor]:
        """Return the figures named above; NaN when nothing was scored."""
        word_errors, words, character_errors, characters, wrong = self.counts.double()
        return {
            "wer": 100 * word_errors / words,
            "cer": 100 * character_errors / characters,
            "ser": 100 * wrong / self.utterances,
            "loss": self.nll / self.symbols,
            "words": words,
        }

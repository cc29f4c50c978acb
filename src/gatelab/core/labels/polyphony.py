"""A recurrent model of polyphonic music: which keys sound in the next frame, each by its own probability.

Boulanger-Lewandowski et al. 2012 (arXiv:1206.6392) give the task; Bai et al. 2018 (arXiv:1803.01271) this output, one
Bernoulli for each key.

Dimensions: T frames, B batch, K keys, E the core's input, F the core's output.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from gatelab.core.contract import make_core
from gatelab.core.regularization import check_probability, drop_weights, dropout


class FrameModel(nn.Module):
    """Predict the next frame: `model(frames [B, T, K], lengths=None) -> logits [B, T, K]` of the frame after each.

    Args:
        keys: K.
        core: makes the recurrent core (see `Core`) when called as `core(input_size=E)`; time-major, forward only, with
            `lengths=`.
        embedding_size: E, the width of a linear map of the frames; None: the core reads the frames themselves.
        dropout: on the core's input and output.
        input_dropout, output_dropout: the same where they differ; None: `dropout`.
        locked_dropout: each draws one mask for all frames.
        weight_drop: share of the recurrent matrices that is dropped in a batch.

    The options of regularisation are explained in `regularization.py`, with their papers.
    """

    def __init__(
        self,
        keys: int,
        core: Callable[..., Any],
        *,
        embedding_size: int | None = None,
        dropout: float = 0.0,
        input_dropout: float | None = None,
        output_dropout: float | None = None,
        locked_dropout: bool = False,
        weight_drop: float = 0.0,
    ) -> None:
        super().__init__()
        if keys < 1 or (embedding_size is not None and embedding_size < 1):
            raise ValueError(f"keys={keys}, embedding_size={embedding_size}: give at least 1")
        self.locked, shared = locked_dropout, check_probability("dropout", dropout)
        self.input_dropout, self.output_dropout = (
            shared if p is None else check_probability(name, p)
            for name, p in (("input_dropout", input_dropout), ("output_dropout", output_dropout))
        )
        self.embedding = nn.Linear(keys, embedding_size) if embedding_size else None
        self.core = make_core(core, embedding_size or keys, "FrameModel", None, lengths=None)
        if getattr(self.core, "bidirectional", False):
            raise ValueError(
                "the core of a FrameModel must not be bidirectional: it would see the next frame"
            )
        if check_probability("weight_drop", weight_drop):
            drop_weights(self.core, weight_drop)
        self.head = nn.Linear(self.core.output_size, keys)

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return logits [B, T, K]; lengths [B]: the frames of each piece, None: all T."""
        x = frames.transpose(0, 1)
        x = x if self.embedding is None else self.embedding(x)
        x = dropout(x, self.input_dropout, self.training, locked=self.locked)
        y = dropout(self.core(x, lengths=lengths)[0], self.output_dropout, self.training, locked=self.locked)
        logits: Tensor = self.head(y).transpose(0, 1)
        return logits

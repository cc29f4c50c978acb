"""A recurrent network for connectionist temporal classification (CTC; Graves et al. 2006): frames in, logits out.

    frames [B, T, C]
      -> causal convolution over time with a ReLU, if asked for: an output sees its frame and the `kernel - 1` before
      -> `stride` frames at once: T' = floor(T / stride) steps (frame stacking, Sak et al. 2015, arXiv:1507.06947)
      -> recurrent core, in one direction (streaming) or both
      -> linear head: logits [T', B, V + 1]; output 0 is the blank

Frames at the end that fill no step are not read. The state is an argument: what the core carries and, with a
convolution, the last `kernel - 1` frames; fed with the frames piece by piece, a multiple of `stride` at a time, a
network of one direction gives what it gives for the whole.

Dimensions: B batch, T frames, T' steps, C channels, W filters, K kernel, V symbols.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core.contract import make_core
from gatelab.core.regularization import check_probability, dropout


class SpeechRecognizer(nn.Module):
    """Logits of symbols and blank: `model(frames, state=None, lengths=None) -> (logits [T', B, V + 1], state)`.

    Args:
        symbols: V, without the blank.
        channels: C.
        core: makes the recurrent core (see `Core`) when called as `core(input_size=...)`, which must be time-major and
            take `lengths=`.
        filters: W of the convolution; None: there is none.
        kernel: K, the frames that it sees.
        stride: frames that the core reads at once.
        bidirectional: the core reads in both directions; such a network cannot stream.
        dropout: on the core's input and output. (Between the core's layers it is the core's own.)

    Raises ValueError where they do not fit together.
    """

    def __init__(
        self,
        symbols: int,
        channels: int,
        core: Callable[..., Any],
        *,
        filters: int | None = None,
        kernel: int = 5,
        stride: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = {
            "symbols": symbols,
            "channels": channels,
            "filters": filters,
            "kernel": kernel,
            "stride": stride,
        }
        if wrong := [f"{name}={size}" for name, size in sizes.items() if size is not None and size < 1]:
            raise ValueError(f"{', '.join(wrong)}: give at least 1")
        self.stride, self.dropout = stride, check_probability("dropout", dropout)
        self.memory = kernel - 1 if filters else 0
        self.convolution = nn.Conv1d(channels, filters, kernel) if filters else None
        make = partial(core, bidirectional=True) if bidirectional else core
        width = (filters or channels) * stride
        self.core = make_core(make, width, "SpeechRecognizer", None, None, lengths=None)
        self.head = nn.Linear(self.core.output_size, symbols + 1)

    @property
    def streams(self) -> bool:
        """Whether its outputs depend on no later frame."""
        return not getattr(self.core, "bidirectional", False)

    def steps(self, lengths: Tensor) -> Tensor:
        """T' of utterances of so many frames."""
        return lengths // self.stride

    def forward(self, frames: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Return logits [T', B, V + 1] and the state after the last step.

        lengths: [B], the frames of each utterance, at least `stride`; None: all T. What lies behind is read by nothing.
        state: what an earlier call returned, None at the beginning: the core's, or with a convolution
            (frames [K - 1, B, C], what the core's consists of ...).
        """
        x = frames.transpose(0, 1)
        if x.shape[0] < self.stride:
            raise ValueError(f"{x.shape[0]} frames are fewer than the stride of {self.stride}")
        before: Tensor | None = None
        if self.convolution is not None:
            x, before, state = self._convolved(x, state)
        x = x[: x.shape[0] // self.stride * self.stride]
        if self.stride > 1:  # frames side by side: [T', B, stride * W]
            x = x.unflatten(0, (-1, self.stride)).transpose(1, 2).flatten(2)
        x = dropout(x, self.dropout, self.training)
        y, state = self.core(x, state, lengths=None if lengths is None else self.steps(lengths))
        logits: Tensor = self.head(dropout(y, self.dropout, self.training))
        if before is not None:
            state = (before, *(state if isinstance(state, tuple) else (state,)))
        return logits, state

    def _convolved(self, x: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        """Filters [T, B, W] of frames x [T, B, C], the frames to remember, and the core's part of the state."""
        assert self.convolution is not None
        if state is None:
            before = x.new_zeros(self.memory, *x.shape[1:])
        else:
            before, *rest = state
            state = rest[0] if len(rest) == 1 else tuple(rest)
        whole = torch.cat((before, x))
        filtered = F.relu(self.convolution(whole.permute(1, 2, 0))).permute(2, 0, 1)
        return filtered, whole[whole.shape[0] - self.memory :], state

"""What a recurrent layer accepts as a sequence, brought to one form: x [T, B, D], time first.

Unbatched [T, D], batched [T, B, D] or [B, T, D] (`batch_first`), and `PackedSequence`; ragged batches come
packed or with `lengths`. `enter` checks and converts; the `Layout` that it returns converts outputs and
states back. Nothing here computes anything recurrent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from gatelab.core.unroll import padding


@dataclass(frozen=True)
class Layout:
    """How the caller's tensors relate to the inner form, and the way back."""

    kind: Literal["unbatched", "batched", "packed"]
    batch_first: bool
    packed: PackedSequence | None = None

    def output(self, y: Tensor, lengths: Tensor | None) -> Tensor | PackedSequence:
        """Return y [T, B, F] in the caller's layout."""
        if self.kind == "unbatched":
            return y.squeeze(1)
        if self.packed is None:
            return y.transpose(0, 1) if self.batch_first else y
        assert lengths is not None
        data = pack_padded_sequence(y, lengths.cpu()).data
        packed = self.packed
        return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)

    def state_in(self, state: Tensor) -> Tensor:
        """Bring the caller's state to [L*dirs, B, H] in the inner order of rows."""
        if self.kind == "unbatched":
            return state.unsqueeze(1)
        if self.packed is not None and self.packed.sorted_indices is not None:
            return state.index_select(1, self.packed.sorted_indices)
        return state

    def state_out(self, state: Tensor) -> Tensor:
        """The inverse of `state_in`."""
        if self.kind == "unbatched":
            return state.squeeze(1)
        if self.packed is not None and self.packed.unsorted_indices is not None:
            return state.index_select(1, self.packed.unsorted_indices)
        return state


_LAYOUTS = {(k, first): Layout(k, first) for k in ("unbatched", "batched") for first in (False, True)}


def enter(
    input: Tensor | PackedSequence,
    input_size: int,
    batch_first: bool,
    lengths: Tensor | Sequence[int] | None,
    reset_mask: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None, Layout]:
    """Return x [T, B, D], lengths [B] or None, reset_mask [T, B] or None, and the layout of the way back.

    Padding is set to zero, so that whatever it held (NaN included) reaches neither output nor gradient.
    Raises ValueError on shapes that do not fit, TypeError on a dtype that does not.
    """
    if isinstance(input, PackedSequence):
        if lengths is not None or reset_mask is not None:
            raise ValueError(
                "a PackedSequence already holds its lengths: pass lengths= and reset_mask= with padded input"
            )
        _check_size(input.data, input_size)
        x, sizes = pad_packed_sequence(PackedSequence(input.data, input.batch_sizes))
        return x, sizes.to(x.device), None, Layout("packed", batch_first, input)
    if input.dim() not in (2, 3):
        raise ValueError(f"input must be 2-D (unbatched) or 3-D (batched), got shape {list(input.shape)}")
    _check_size(input, input_size)
    layout = _LAYOUTS["unbatched" if input.dim() == 2 else "batched", batch_first]
    x = input.unsqueeze(1) if input.dim() == 2 else input.transpose(0, 1) if batch_first else input
    steps, batch = x.shape[:2]
    if steps == 0:
        raise ValueError(f"input has no time steps: shape {list(input.shape)}, batch_first={batch_first}")
    if reset_mask is not None:
        reset_mask = _check_reset(reset_mask, layout, steps, batch)
    if lengths is not None:
        lengths = _check_lengths(lengths, steps, batch, x.device)
        x = x.masked_fill(padding(lengths, steps).unsqueeze(-1), 0)
    return x, lengths, reset_mask, layout


def _check_size(x: Tensor, input_size: int) -> None:
    if x.shape[-1] != input_size:
        raise ValueError(
            f"input.size(-1) must be input_size={input_size}, got {x.shape[-1]} (shape {list(x.shape)})"
        )


def _check_reset(reset_mask: Tensor, layout: Layout, steps: int, batch: int) -> Tensor:
    if reset_mask.dtype != torch.bool:
        raise TypeError(f"reset_mask must be bool, got {reset_mask.dtype}")
    if layout.kind == "unbatched" and reset_mask.dim() == 1:
        reset_mask = reset_mask.unsqueeze(1)
    if reset_mask.shape != (steps, batch):
        raise ValueError(
            f"reset_mask must be [T, B] = [{steps}, {batch}], also with batch_first=True; "
            f"got {list(reset_mask.shape)}"
        )
    return reset_mask


def _check_lengths(lengths: Tensor | Sequence[int], steps: int, batch: int, device: torch.device) -> Tensor:
    lengths = torch.as_tensor(lengths, device=device)
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths must be integers, got {lengths.dtype}")
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must be [B] = [{batch}], got {list(lengths.shape)}")
    # compiled code cannot branch on values: there a backend may check them (native does), the others cannot
    in_graph = torch.compiler.is_compiling()
    if batch and not in_graph and not (int(lengths.min()) >= 0 and int(lengths.max()) <= steps):
        raise ValueError(f"lengths must lie in 0 ... T={steps}, got {lengths.tolist()}")
    return lengths.long()

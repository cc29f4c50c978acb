"""Smaller weights of a trained network: magnitude pruning, and int8 with a scale for each row. No retraining.

Pruning sets the weights of least magnitude to zero (Han et al. 2015, arXiv:1506.02626), here those of all matrices
ranked together: "class-blind", which See, Luong and Manning (2016, arXiv:1606.09274) found to cost recurrent networks
least. Rounding is symmetric, of weights only (Jacob et al. 2018, arXiv:1712.05877, section 2, without a zero point):

    s_r = max_c |W_rc| / 127        float32, for each row r
    Q_rc = round(W_rc / s_r)        int8;  W_rc is read back as s_r Q_rc

So no weight moves by more than half of its row's s, and a pruned one stays zero.

A matrix is a parameter of two dimensions or more, an embedding too; its row is everything at one place of the first.
Biases and gains, a small share of any network, stay as they are.

A packed matrix `W` is up to three tensors: `W`, the values (float32, or int8); `W.scale` [rows], with int8; and, where
that is smaller, `W.kept`, a bit for each weight, eight a byte, the first the highest: `W` then holds those only whose
bit is 1, in order. Their shapes are kept beside them.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

LARGEST = 127
BITS = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8)


def matrices(net: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are pruned and rounded, each once, by name."""
    return {n: p for n, p in net.named_parameters() if p.dim() > 1 and p.is_floating_point() and p.numel()}


@torch.no_grad()
def prune(net: nn.Module, share: float) -> None:
    """Set to zero that share of the weights of all matrices, those of least magnitude.

    Raises:
        ValueError: the share is not above 0 and below 1, or there is no matrix.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"the share of weights to prune must be above 0 and below 1, not {share}")
    found = list(matrices(net).values())
    if not found:
        raise ValueError("the network has no matrix to prune")
    magnitudes = torch.cat([matrix.detach().abs().flatten() for matrix in found])
    kept = torch.ones_like(magnitudes, dtype=torch.bool)
    kept[magnitudes.argsort(stable=True)[: round(share * len(magnitudes))]] = False
    for matrix, part in zip(found, kept.split([matrix.numel() for matrix in found]), strict=True):
        matrix.mul_(part.view_as(matrix))


def rounded(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """(Q int8, s float32 [rows]) of a matrix; a row of zeros has the scale 0."""
    rows = matrix.detach().float().flatten(1)
    scale = rows.abs().amax(1) / LARGEST
    q = (rows / torch.where(scale > 0, scale, 1.0)[:, None]).round_().clamp_(-LARGEST, LARGEST)
    return q.to(torch.int8).view_as(matrix), scale


@torch.no_grad()
def round_matrices(net: nn.Module) -> None:
    """Let every matrix have the values that int8 leaves of it."""
    for matrix in matrices(net).values():
        matrix.copy_(_times(*rounded(matrix)))


def _times(q: Tensor, scale: Tensor) -> Tensor:
    """s_r Q_rc."""
    return q * scale.view(-1, *[1] * (q.dim() - 1))


def pack(
    weights: Mapping[str, Tensor], names: Mapping[str, object], *, int8: bool
) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """The tensors to store for `weights`, and the shapes of those matrices, of `names`, that are packed in them."""
    stored: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, value in weights.items():
        values = value
        if name in names:
            shapes[name] = list(value.shape)
            if int8:
                values, stored[f"{name}.scale"] = rounded(value)
            kept = (values != 0).flatten()
            bits = math.ceil(len(kept) / 8)
            if int(kept.sum()) * values.element_size() + bits < values.numel() * values.element_size():
                padded = nn.functional.pad(kept, (0, 8 * bits - len(kept))).view(bits, 8)
                stored[f"{name}.kept"] = (padded * BITS).sum(1, dtype=torch.uint8)
                values = values.flatten()[kept]
        stored[name] = values.contiguous()
    return stored, shapes


def unpack(stored: Mapping[str, Tensor], shapes: Mapping[str, list[int]]) -> dict[str, Tensor]:
    """The weights that `pack` stored, int8 ones as float32."""
    weights: dict[str, Tensor] = {}
    for name, value in stored.items():
        if name.rpartition(".")[0] in shapes:
            continue
        if name in shapes:
            shape, kept = shapes[name], stored.get(f"{name}.kept")
            if kept is not None:
                whole = value.new_zeros(math.prod(shape))
                whole[((kept[:, None] & BITS) > 0).flatten()[: len(whole)]] = value
                value = whole
            value = value.view(shape)
            if value.dtype == torch.int8:
                value = _times(value, stored[f"{name}.scale"])
        weights[name] = value
    return weights

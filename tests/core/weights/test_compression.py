"""Pruned, rounded and packed weights are those that were meant, to the last bit."""

import pytest
import torch
from torch import nn

from gatelab.core import GRU, LanguageModel
from gatelab.core.weights.compression import matrices, pack, prune, round_matrices, rounded, unpack


@pytest.fixture
def net():
    torch.manual_seed(0)
    return LanguageModel(13, lambda input_size: GRU(input_size, 7))


def test_the_smallest_weights_of_all_matrices_together_become_zero(net):
    before = torch.cat([matrix.detach().flatten() for matrix in matrices(net).values()])
    vectors = [p.detach().clone() for p in net.parameters() if p.dim() == 1]
    prune(net, 0.3)
    after = torch.cat([matrix.detach().flatten() for matrix in matrices(net).values()])
    gone = after == 0
    assert int(gone.sum()) == round(0.3 * len(before))
    assert before[gone].abs().max() <= before[~gone].abs().min()
    assert torch.equal(before[~gone], after[~gone])
    assert all(map(torch.equal, vectors, [p for p in net.parameters() if p.dim() == 1]))


def test_a_tied_matrix_counts_once(net):
    assert net.head.weight is net.embedding.weight
    assert sorted(matrices(net)) == ["core.weight_hh_l0", "core.weight_ih_l0", "embedding.weight"]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_of_nothing_or_of_all_is_refused(net, share):
    with pytest.raises(ValueError, match="share of weights"):
        prune(net, share)


def test_no_weight_moves_by_more_than_half_a_step_of_its_row():
    matrix = (
        torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(1))
        * torch.logspace(-3, 3, 5)[:, None, None]
    )
    matrix[2] = 0
    q, scale = rounded(matrix)
    assert q.dtype == torch.int8
    assert q.shape == matrix.shape
    assert int(q.abs().flatten(1).amax(1)[[0, 1, 3, 4]].min()) == 127
    gap = (q * scale[:, None, None] - matrix).abs()
    assert bool((gap <= scale[:, None, None] * 0.5001).all())
    assert not q[2].any()
    assert torch.equal(scale, matrix.abs().flatten(1).amax(1) / 127)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_what_is_packed_comes_back(net, share, int8):
    if share:
        prune(net, share)
    weights = {name: value.clone() for name, value in net.state_dict().items() if name != "head.weight"}
    stored, shapes = pack(weights, matrices(net), int8=int8)
    if int8:
        round_matrices(net)
    found = unpack(stored, shapes)
    assert found.keys() == weights.keys()
    for name, value in net.state_dict().items():
        if name in found:
            assert torch.equal(found[name], value), name
    held = sum(tensor.numel() * tensor.element_size() for tensor in stored.values())
    whole = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    assert (held < whole) == bool(share or int8)
    assert any(name.endswith(".kept") for name in stored) == bool(share)


def test_a_mask_is_left_out_where_it_would_take_more_than_it_saves():
    stored, shapes = pack({"w": torch.ones(4, 8)}, {"w": None}, int8=False)
    assert list(stored) == ["w"]
    assert torch.equal(unpack(stored, shapes)["w"], torch.ones(4, 8))


def test_a_network_of_vectors_has_nothing_to_prune():
    with pytest.raises(ValueError, match="no matrix"):
        prune(nn.LayerNorm(4), 0.5)

"""The unroller: lengths and resets mean what running each piece by itself means."""

import torch
from torch import Tensor

from gatelab.core.unroll import padding, reverse, reverse_reset, unroll

LENGTHS = torch.tensor([5, 0, 3, 1])


def _step(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (0.5 * state[0] + x,)


def test_lengths_give_each_row_what_it_gets_alone() -> None:
    x, h = torch.randn(5, 4, 2), torch.randn(4, 2)
    y, (final,) = unroll(_step, x, (h,), lengths=LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        assert not y[n:, b].any()
        if n == 0:
            assert torch.equal(final[b], h[b])
            continue
        alone, (last,) = unroll(_step, x[:n, b : b + 1], (h[b : b + 1],))
        assert torch.equal(y[:n, b], alone[:, 0])
        assert torch.equal(final[b], last[0])


def test_a_reset_starts_again_from_zero() -> None:
    x, h = torch.randn(6, 1, 2), torch.randn(1, 2)
    mask = torch.tensor([False, False, True, False, True, True]).unsqueeze(1)
    y, (final,) = unroll(_step, x, (h,), reset_mask=mask)
    pieces = [unroll(_step, x[:2], (h,))[0]]
    pieces += [unroll(_step, x[a:b], (torch.zeros(1, 2),))[0] for a, b in ((2, 4), (4, 5), (5, 6))]
    assert torch.equal(y, torch.cat(pieces))
    assert torch.equal(final, pieces[-1][-1])


def test_reverse_is_its_own_inverse_and_leaves_the_padding() -> None:
    x = torch.randn(5, 4, 2)
    turned = reverse(x, LENGTHS)
    assert torch.equal(reverse(turned, LENGTHS), x)
    over = padding(LENGTHS, 5)
    assert torch.equal(turned[over], x[over])
    assert torch.equal(turned[:3, 2], x[:3, 2].flip(0))
    assert torch.equal(reverse(reverse(x, None), None), x)


def test_the_reverse_pass_resets_at_the_same_boundaries() -> None:
    # boundaries before steps 0, 2 and 5 of a row of 5 steps: the segments are {0, 1} and {2, 3, 4}
    mask = torch.tensor([True, False, True, False, False, True, False]).unsqueeze(1)
    reset = reverse_reset(mask, torch.tensor([5]))
    order = reverse(torch.arange(7).view(7, 1, 1), torch.tensor([5])).flatten().tolist()
    assert order[:5] == [4, 3, 2, 1, 0]
    assert [t for t, flag in zip(order, reset.flatten().tolist(), strict=True) if flag and t < 5] == [1]
    assert not reverse_reset(mask, None)[0].any()

"""The head as one operation has the values and gradients of `F.linear` and `F.cross_entropy`."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core.backends.native import UNAVAILABLE
from gatelab.core.backends.native.products import RoundedProducts
from gatelab.core.text import fused_head
from gatelab.core.text.head import IGNORE, token_loss

N, FEATURES, V = 61, 24, 301
Loss = Callable[[nn.Module, Tensor, Tensor, float], tuple[Tensor, Tensor]]


def plain_loss(head: nn.Module, x: Tensor, targets: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    logits = head(x)
    losses = [
        F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum", label_smoothing=s)
        for s in (smoothing, 0.0)
    ]
    return losses[0], losses[1]


def problem(bias: bool = True, ignored: bool = True) -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(0)
    head, x, targets = nn.Linear(FEATURES, V, bias=bias), torch.randn(N, FEATURES), torch.randint(V, (N,))
    if ignored:
        targets[::7] = IGNORE
    return head, x.requires_grad_(), targets


def everything(loss: Loss, head: nn.Module, x: Tensor, targets: Tensor, smoothing: float) -> list[Tensor]:
    total, nll = loss(head, x, targets, smoothing)
    return [total, nll, *torch.autograd.grad(0.3 * total, [x, *head.parameters()])]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The positions of each call that the fused operation serves."""
    calls: list[int] = []
    fused = fused_head.fused

    def counted(x: Tensor, *others: object) -> tuple[Tensor, Tensor]:
        calls.append(len(x))
        return fused(x, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(fused_head, "fused", counted)
    return calls


@pytest.mark.parametrize(
    ("bias", "ignored", "smoothing"), list(product((True, False), (True, False), (0.0, 0.1)))
)
@pytest.mark.parametrize("chunk", [1 << 23, 20 * V])
@pytest.mark.parametrize("native", [True, False])
def test_values_and_gradients_are_the_plain_heads_within_its_own_error(
    monkeypatch: pytest.MonkeyPatch,
    served: list[int],
    bias: bool,
    ignored: bool,
    smoothing: float,
    chunk: int,
    native: bool,
) -> None:
    if native and UNAVAILABLE:
        pytest.skip(UNAVAILABLE)
    monkeypatch.setattr(fused_head, "CHUNK", chunk)
    if not native:
        monkeypatch.setattr(fused_head, "UNAVAILABLE", "this test wants PyTorch's operations")
    head, x, targets = problem(bias, ignored)
    exact_head = nn.Linear(FEATURES, V, bias=bias).double()
    exact_head.load_state_dict(head.state_dict())
    exact = everything(plain_loss, exact_head, x.detach().double().requires_grad_(), targets, smoothing)
    theirs = everything(plain_loss, head, x, targets, smoothing)
    mine = everything(token_loss, head, x, targets, smoothing)
    assert served == [int((targets != IGNORE).sum())]
    for want, other, got in zip(exact, theirs, mine, strict=True):
        assert got.dtype == torch.float32
        # the root mean square: of single elements the largest errors differ by luck, as does the one of a sum
        least = torch.finfo(torch.float32).eps * want.abs().max()
        assert (got - want).norm() <= 2 * max((other - want).norm(), least)
    if ignored:
        assert not mine[2][::7].any()


def test_a_probability_too_small_for_float32_has_a_finite_nll(served: list[int]) -> None:
    head, x, targets = problem(ignored=False)
    with torch.no_grad():
        head.weight.mul_(100)
    for got, want in zip(token_loss(head, x, targets), plain_loss(head, x, targets), strict=True):
        torch.testing.assert_close(got, want)
    assert served
    assert token_loss(head, x, targets)[0] > 90 * N


def test_the_gradient_in_float64_is_the_numerical_one(served: list[int]) -> None:
    head, x, targets = (
        nn.Linear(4, 7).double(),
        torch.randn(5, 4).double(),
        torch.tensor([0, 6, IGNORE, 3, 3]),
    )
    inputs = (x.requires_grad_(), head.weight, head.bias)
    assert torch.autograd.gradcheck(lambda x, *_: token_loss(head, x, targets, 0.1), inputs)
    assert not served  # it computes in float32


def test_tied_weights_and_frozen_tensors_get_what_the_plain_head_gives(served: list[int]) -> None:
    head, x, targets = problem()
    embedding = nn.Embedding(V, FEATURES)
    embedding.weight = head.weight
    tokens = torch.randint(V, (N,))
    for frozen in ((), ("weight",), ("bias",), ("weight", "bias")):
        for name, parameter in head.named_parameters():
            parameter.requires_grad_(name not in frozen)
        found = []
        for loss in (token_loss, plain_loss):
            head.zero_grad()
            features = embedding(tokens) if len(frozen) < 2 else embedding(tokens) + x
            loss(head, features, targets, 0.0)[0].backward()
            found.append([p.grad for p in head.parameters()])
        for (name, _), mine, theirs in zip(head.named_parameters(), *found, strict=True):
            assert (mine is None) == (theirs is None) == (name in frozen)
            torch.testing.assert_close(mine, theirs)
    assert len(served) == 4


@pytest.mark.parametrize("weights", [(1.0, 0.5), (0.0, 1.0)])
def test_the_nll_has_a_gradient_beside_the_objective(served: list[int], weights: tuple[float, float]) -> None:
    head, x, targets = problem()
    for smoothing in (0.0, 0.2):
        mine, theirs = (
            torch.autograd.grad(
                sum(w * y for w, y in zip(weights, f(head, x, targets, smoothing), strict=True)),
                [x, head.weight],
            )
            for f in (token_loss, plain_loss)
        )
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert len(served) == 2


def test_a_kept_graph_and_second_derivatives_are_the_plain_heads(served: list[int]) -> None:
    head, x, targets = problem()
    total, _ = token_loss(head, x, targets)
    first, again = (torch.autograd.grad(total, x, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, again)
    seconds = []
    for loss in (token_loss, plain_loss):
        (dx,) = torch.autograd.grad(loss(head, x, targets, 0.1)[0], x, create_graph=True)
        seconds.append(torch.autograd.grad(dx.square().sum(), [x, head.weight]))
    torch.testing.assert_close(*seconds, rtol=1e-4, atol=1e-4)
    assert len(served) == 2


def test_weights_changed_before_backward_are_noticed(served: list[int]) -> None:
    head, x, targets = problem()
    total, _ = token_loss(head, x, targets)
    with torch.no_grad():
        head.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()
    assert served


def test_whatever_is_not_plain_float32_training_gets_the_plain_operations(served: list[int]) -> None:
    head, x, targets = problem()
    with torch.no_grad():
        token_loss(head, x, targets)
    with torch.autocast("cpu", torch.bfloat16):
        token_loss(head, x, targets)
    token_loss(nn.Linear(FEATURES, V).bfloat16(), x.bfloat16(), targets)
    torch.func.grad(lambda x: token_loss(head, x, targets)[0])(x.detach())
    every = torch.full_like(targets, IGNORE)
    assert token_loss(head, x, every)[0] == 0
    calls: list[int] = []
    head.register_forward_hook(lambda *_: calls.append(1))
    token_loss(head, x, targets)
    dropped = nn.Linear(FEATURES, V)
    torch.nn.utils.parametrize.register_parametrization(dropped, "weight", nn.Dropout(0.5))
    token_loss(dropped, x, targets)
    assert not served
    assert calls == [1]


def test_a_target_outside_the_vocabulary_is_refused() -> None:
    head, x, targets = problem()
    for bad in (V, -1):
        targets[3] = bad
        with pytest.raises((RuntimeError, IndexError), match="out of bounds"):
            token_loss(head, x, targets)


@pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk", [1 << 23, 20 * V])
def test_products_in_bf16_change_what_their_rounding_changes(
    monkeypatch: pytest.MonkeyPatch, served: list[int], bias: bool, chunk: int
) -> None:
    monkeypatch.setattr(fused_head, "CHUNK", chunk)
    head, x, targets = problem(bias)
    exact = everything(token_loss, head, x, targets, 0.1)
    monkeypatch.setattr(fused_head, "products_of", lambda weight, rows: RoundedProducts(weight))
    found = everything(token_loss, head, x, targets, 0.1)
    assert len(served) == 2
    for want, got in zip(exact, found, strict=True):
        assert not torch.equal(got, want)
        assert (got - want).norm() <= 1e-2 * want.norm()  # a factor is off by 2^-9 of it at most
    assert not found[2][::7].any()

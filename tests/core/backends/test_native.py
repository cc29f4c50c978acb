"""The native backend inside `gatelab.GRU`: what holds for the layer whichever way it is computed."""

import copy
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from gatelab.core.backends import BackendError, native
from gatelab.core.gru import GRU

Measure = Callable[[Tensor, Tensor], float]
pytestmark = pytest.mark.skipif(native.UNAVAILABLE is not None, reason=str(native.UNAVAILABLE))
LENGTHS = [3, 9, 1, 5, 0]
STACKS: list[dict[str, Any]] = [
    {},
    {"num_layers": 3, "bidirectional": True},
    {"num_layers": 2, "batch_first": True, "bias": False},
]


def _results(layer: nn.Module, x: Tensor, h0: Tensor, **options: Any) -> list[Tensor]:
    """y, h_n and the gradients of everything, each result with weights of its own."""
    x, h0 = x.clone().requires_grad_(), h0.clone().requires_grad_()
    y, h = layer(x, h0, **options)
    dy = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    dh = torch.linspace(1, 2, h.numel(), dtype=h.dtype).view(h.shape)
    return [y, h, *torch.autograd.grad((y, h), [x, h0, *layer.parameters()], (dy, dh))]


def _twin(gru: GRU, backend: Any, dtype: torch.dtype = torch.float32) -> GRU:
    other = copy.deepcopy(gru).to(dtype)
    other.backend = backend
    return other


@pytest.mark.parametrize("resets", [False, True], ids=["no_reset", "resets"])
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
@pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("stack", STACKS, ids=["one", "both_ways", "batch_first"])
def test_its_error_is_at_most_twice_that_of_the_plain_loop(
    stack: dict[str, Any], reset_after: bool, ragged: bool, resets: bool, error: Measure
) -> None:
    gru = GRU(7, 17, **stack, reset_after=reset_after, backend="native")
    x = torch.randn((5, 9, 7) if gru.batch_first else (9, 5, 7))
    h0 = torch.randn(gru.num_layers * gru.directions, 5, 17)
    mask = torch.rand(9, 5) < 0.2 if resets else None
    options = {"lengths": LENGTHS if ragged else None, "reset_mask": mask}
    exact = _results(_twin(gru, "reference", torch.float64), x.double(), h0.double(), **options)
    plain = _results(_twin(gru, "reference"), x, h0, **options)
    for e, p, f in zip(exact, plain, _results(gru, x, h0, **options), strict=True):
        assert error(f, e) <= 2 * error(p, e) + 1e-6
    with torch.no_grad():
        for e, p, f in zip(exact, plain, gru(x, h0, **options), strict=False):
            assert error(f, e) <= 2 * error(p, e) + 1e-6


def test_packed_sequences_equal_nn_gru_s() -> None:
    gru, theirs = GRU(7, 17, 2, bidirectional=True, backend="native"), nn.GRU(7, 17, 2, bidirectional=True)
    theirs.load_state_dict(gru.state_dict())
    packed = pack_padded_sequence(torch.randn(9, 4, 7), torch.tensor([3, 9, 1, 5]), enforce_sorted=False)
    (got, h_got), (want, h_want) = gru(packed), theirs(packed)
    assert isinstance(got, PackedSequence)
    torch.testing.assert_close(got.data, want.data)
    torch.testing.assert_close(h_got, h_want)


def test_dropout_between_layers_is_drawn_as_by_the_other_backends() -> None:
    gru = GRU(7, 17, 3, dropout=0.5, backend="native")
    x = torch.randn(9, 5, 7)
    results = []
    for layer in (gru, _twin(gru, "torch")):
        torch.manual_seed(1)
        results.append(layer(x)[0])
    torch.testing.assert_close(*results)


def test_other_dtypes_are_refused_by_name_and_served_by_auto() -> None:
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    with pytest.raises(BackendError, match=r"computes in torch.float32, not in torch.float64"):
        GRU(3, 5, dtype=torch.float64, backend="native")(x)
    automatic = GRU(3, 5, dtype=torch.float64)
    assert automatic.explain(x).backend == "torch"
    assert automatic(x)[0].dtype == torch.float64


def test_without_the_kernel_the_name_raises_and_auto_takes_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "UNAVAILABLE", "the native kernel is not built")
    x = torch.randn(4, 2, 3)
    with pytest.raises(BackendError, match="the native kernel is not built"):
        GRU(3, 5, backend="native")(x)
    told = GRU(3, 5).explain(x)
    assert told.backend == "torch"
    assert told.others["native"] == "the native kernel is not built"
    assert GRU(3, 5)(x)[0].shape == (4, 2, 5)


@pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
def test_the_gradient_of_a_gradient_is_the_reference_s(ragged: bool, reset_after: bool) -> None:
    gru = GRU(3, 5, 2, bidirectional=True, reset_after=reset_after, backend="native")
    x = torch.randn(6, 3, 3)
    mask = torch.rand(6, 3) < 0.2
    results = []
    for layer in (gru, _twin(gru, "reference")):
        leaf = x.clone().requires_grad_()
        y, h = layer(leaf, lengths=[4, 6, 1] if ragged else None, reset_mask=mask)
        (grad,) = torch.autograd.grad(y.square().sum() + h.sum(), leaf, create_graph=True)
        grad.square().sum().backward()
        results.append([leaf.grad, *(p.grad for p in layer.parameters())])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_the_output_may_be_changed_in_place() -> None:
    gru, x = GRU(3, 5, 2, bidirectional=True, backend="native"), torch.randn(4, 2, 3)
    results = []
    for change in (lambda y: y * 2, lambda y: y.mul_(2)):
        y = change(gru(x)[0])
        results.append(torch.autograd.grad(y.square().sum(), list(gru.parameters())))
    for got, want in zip(*results, strict=True):
        assert torch.equal(got, want)


def test_a_changed_argument_is_noticed_by_backward() -> None:
    gru, x = GRU(3, 5, backend="native"), torch.randn(4, 2, 3)
    y, _ = gru(x)
    x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_under_autocast_it_runs_in_float32() -> None:
    gru, x = GRU(3, 5, 2, backend="native"), torch.randn(4, 2, 3)
    want, _ = gru(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, h = gru(x)
        rounded, _ = gru(x.bfloat16())
    assert torch.equal(got, want)
    assert h.dtype == rounded.dtype == torch.float32
    assert torch.equal(rounded, gru(x.bfloat16().float())[0])


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compute_the_same_and_change_apart(clone: Any) -> None:
    gru, x = GRU(3, 5, 2, backend="native"), torch.randn(4, 2, 3)
    with torch.no_grad():
        before = gru(x)[0]  # the packed weights are kept from here on
        twin = clone(gru)
        assert torch.equal(twin(x)[0], before)
        for parameter in twin.parameters():
            parameter.zero_()
        assert not twin(x)[0].any()
        assert torch.equal(gru(x)[0], before)


def test_functional_call_takes_the_weights_it_is_given() -> None:
    gru, other = GRU(3, 5, 2, backend="native"), GRU(3, 5, 2, backend="native")
    x = torch.randn(4, 2, 3)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            gru(x)
            got, _ = torch.func.functional_call(gru, dict(other.named_parameters()), (x,))
            assert torch.equal(got, other(x)[0])
    got.sum()


class _Dropped(nn.Module):
    """Weight drop (Merity et al. 2018): a new mask for every call."""

    def __init__(self) -> None:
        super().__init__()
        self.mask = torch.ones(())

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def test_parametrized_weights_are_read_anew_and_get_gradients() -> None:
    gru = GRU(3, 5, backend="native")
    drop = _Dropped()
    nn.utils.parametrize.register_parametrization(gru, "weight_hh_l0", drop)
    weight_norm(gru, "weight_ih_l0")
    x = torch.randn(4, 2, 3)
    for seed in range(3):
        torch.manual_seed(seed)
        drop.mask = (torch.rand(15, 5) < 0.5).float()
        plain = _twin(gru, "reference")
        leaves, twins = list(gru.parameters()), list(plain.parameters())
        y, want = gru(x)[0], plain(x)[0]
        torch.testing.assert_close(y, want)
        pairs = zip(torch.autograd.grad(y.sum(), leaves), torch.autograd.grad(want.sum(), twins), strict=True)
        for got, expected in pairs:
            torch.testing.assert_close(got, expected)
        with torch.no_grad():
            torch.testing.assert_close(gru(x)[0], want)


def test_several_threads_train_their_own_layers_with_the_same_result() -> None:
    gru, x = GRU(16, 40, 2, backend="native"), torch.randn(12, 20, 16)
    want = _results(gru, x, torch.zeros(2, 20, 40))
    wrong = []

    def work() -> None:
        mine = copy.deepcopy(gru)
        for _ in range(5):
            got = _results(mine, x, torch.zeros(2, 20, 40))
            if not all(torch.equal(a, b) for a, b in zip(got, want, strict=True)):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
        assert not worker.is_alive()
    assert wrong == []


def _digest(gru: GRU, x: Tensor) -> float:
    return sum(float(r.detach().double().sum()) for r in _results(gru, x, torch.zeros(2, 20, 40)))


def _train_in_child(queue: Any, gru: GRU, x: Tensor) -> None:
    torch.set_num_threads(1)
    queue.put(_digest(gru, x))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_trains() -> None:
    gru, x = GRU(16, 40, 2, backend="native"), torch.randn(12, 20, 16)
    want = _digest(gru, x)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_train_in_child, args=(queue, gru, x))
    child.start()
    child.join(timeout=60)
    hangs = child.is_alive()
    if hangs:
        child.kill()
    assert not hangs
    assert queue.get() == pytest.approx(want, rel=1e-6)

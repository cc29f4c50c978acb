"""The registered operations: a graph without a break, shapes without a kernel, the bits of the eager layer."""

import pytest
import torch
from native_cases import random_case

from gatelab.core.gru import GRU

CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("drawn", [False, True], ids=["", "zoneout"])
@pytest.mark.parametrize("seed", [1, 4, 5, 6])
def test_the_operation_is_registered_as_pytorch_wants_it(seed, drawn):
    case = random_case(seed)
    options = case.options
    steps, batch = case.tensors[0].shape[:2]
    arguments = (
        *case.leaves(torch.float32),
        options["lengths"],
        options["reset_mask"],
        torch.rand(steps, batch, case.tensors[1].shape[1]) < 0.3 if drawn else None,
        options["reset_after"],
        options["reverse"],
        0.0,
        True,
    )
    torch.library.opcheck(torch.ops.gatelab.gru_native.default, arguments, test_utils=CHECKS)


def results(call, gru, x, h0, **options):
    x, h0 = x.clone().requires_grad_(), h0.clone().requires_grad_()
    y, h = call(x, h0, **options)
    dy = torch.linspace(-1, 1, y.numel()).view(y.shape)
    return [y, h, *torch.autograd.grad((y, h), [x, h0, *gru.parameters()], (dy, torch.ones_like(h)))]


@pytest.mark.parametrize(
    ("name", "after", "ragged"),
    [("native", True, False), ("native", True, True), ("native", False, True), ("auto", True, True)],
)
@pytest.mark.quick(2, rest="ci")
def test_compiled_without_a_break_it_gives_the_same_bits(name, after, ragged):
    gru = GRU(7, 20, 2, bidirectional=True, reset_after=after, backend=name)
    x, h0 = torch.randn(9, 5, 7), torch.randn(4, 5, 20)
    options = (
        {"lengths": torch.tensor([3, 9, 0, 1, 5]), "reset_mask": torch.rand(9, 5) < 0.2} if ragged else {}
    )
    compiled = torch.compile(gru.forward, fullgraph=True, backend="aot_eager")
    found, eager = results(compiled, gru, x, h0, **options), results(gru, gru, x, h0, **options)
    for a, b in zip(found, eager, strict=True):
        assert torch.equal(a, b)
    with torch.no_grad():
        for a, b in zip(compiled(x, h0, **options), gru(x, h0, **options), strict=True):
            assert torch.equal(a, b)


def test_compiled_inference_follows_a_change_of_the_weights():
    gru = GRU(7, 20, backend="native").eval()
    compiled = torch.compile(gru.forward, fullgraph=True, backend="aot_eager")
    x = torch.randn(1, 1, 7)
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(compiled(x)[0], gru(x)[0])
            gru.weight_hh_l0.add_(0.1)


def test_compiled_lengths_that_do_not_fit_are_refused_by_the_kernel():
    gru = GRU(7, 20, backend="native")
    compiled = torch.compile(gru.forward, fullgraph=True, backend="aot_eager")
    with pytest.raises(ValueError, match=r"lengths must lie in 0 ... 4"):
        compiled(torch.randn(4, 2, 7), lengths=torch.tensor([5, 1]))


def test_a_changing_number_of_rows_and_steps_is_compiled_once():
    gru = GRU(7, 20, backend="native")
    compiled = torch.compile(gru.forward, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for steps, batch in ((9, 5), (4, 3), (17, 8)):
            x, h0 = torch.randn(steps, batch, 7), torch.randn(1, batch, 20)
            for a, b in zip(results(compiled, gru, x, h0), results(gru, gru, x, h0), strict=True):
                assert torch.equal(a, b)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_inductor_compiles_a_model_around_it():
    model = torch.nn.Sequential(torch.nn.Linear(4, 7), torch.nn.Tanh())
    gru = GRU(7, 20, 2, backend="native")

    def loss(x):
        return gru(model(x))[0].square().sum()

    x = torch.randn(9, 5, 4)
    parameters = [*model.parameters(), *gru.parameters()]
    want = torch.autograd.grad(loss(x), parameters)
    got = torch.autograd.grad(torch.compile(loss, fullgraph=True)(x), parameters)
    torch.testing.assert_close(got, want)


def test_the_operation_s_shapes_need_no_kernel():
    with torch._subclasses.FakeTensorMode():
        weights = (torch.empty(60, 7), torch.empty(60, 20), None, None)
        tensors = (torch.empty(9, 5, 7), torch.empty(5, 20), *weights, None, None, None)
        y, h_n, _, _ = torch.ops.gatelab.gru_native(*tensors, True, False, 0.0, False)
    assert y.shape == (9, 5, 20)
    assert h_n.shape == (5, 20)

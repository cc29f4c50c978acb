"""A layer in a compiled graph: one graph without a break, with the bits of the eager layer, on every backend."""

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gatelab.core.backends import native
from gatelab.core.gru import GRU

STEPS, BATCH, WIDTH, HIDDEN = 5, 3, 4, 6
NAMED = ["torch", *([] if native.UNAVAILABLE else ["native"])]
EXTRAS: dict[str, dict[str, Tensor]] = {
    "whole": {},
    "ragged": {"lengths": torch.tensor([2, 5, 0])},
    "resets": {"reset_mask": torch.arange(STEPS * BATCH).view(STEPS, BATCH) % 4 == 1},
    "both": {
        "lengths": torch.tensor([2, 5, 0]),
        "reset_mask": torch.arange(STEPS * BATCH).view(STEPS, BATCH) % 3 == 1,
    },
}


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> None:
    torch._dynamo.reset()


def whole(layer: GRU, **how: Any) -> Callable[..., Any]:
    return torch.compile(layer.forward, fullgraph=True, **{"backend": "aot_eager", **how})


def results(
    call: Callable[..., Any], layer: GRU, sizes: tuple[int, int], silent: bool = True, **extra: Tensor
) -> list[Tensor]:
    """Outputs and gradients in training, then outputs without gradients if `silent`; zoneout's masks are equal."""
    steps, batch = sizes
    rows = layer.num_layers * layer.directions
    x = torch.linspace(-1, 1, steps * batch * WIDTH).view(steps, batch, WIDTH).to(layer.weight_ih_l0.dtype)
    h0 = torch.linspace(-1, 1, rows * batch * HIDDEN).view(rows, batch, HIDDEN).to(x.dtype)
    x, h0 = x.requires_grad_(), h0.requires_grad_()
    torch.manual_seed(5)
    y, h_n = call(x, h0, **extra)
    dy = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    found = [y, h_n, *torch.autograd.grad((y, h_n), [x, h0, *layer.parameters()], (dy, torch.ones_like(h_n)))]
    torch.manual_seed(5)
    with torch.no_grad():
        return [*found, *(call(x, h0, **extra) if silent else ())]


def equal(found: list[Tensor], wanted: list[Tensor]) -> None:
    for got, want in zip(found, wanted, strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("zoneout", [0.0, 0.3])
@pytest.mark.quick(4)
@pytest.mark.quick(2, rest="ci")
def test_backend_torch_gives_the_same_bits_in_one_graph(
    zoneout: float, reset_after: bool, extra: str, dtype: torch.dtype
) -> None:
    options = {"reset_after": reset_after, "zoneout": zoneout, "backend": "torch", "dtype": dtype}
    layer = GRU(WIDTH, HIDDEN, bidirectional=extra == "both", **options)
    for training in (True, False):
        layer.train(training)
        call, given = whole(layer), ((STEPS, BATCH), EXTRAS[extra])
        equal(results(call, layer, given[0], **given[1]), results(layer, layer, given[0], **given[1]))


@pytest.mark.parametrize("frozen", range(16))
@pytest.mark.quick(6)
def test_only_what_learns_gets_a_gradient_in_a_graph_too(frozen: int) -> None:
    layer = GRU(WIDTH, HIDDEN, backend="torch")
    for place, parameter in enumerate(layer.parameters()):
        parameter.requires_grad_(not frozen >> place & 1)
    x, call = torch.randn(STEPS, BATCH, WIDTH), whole(layer)
    learns = [p for p in layer.parameters() if p.requires_grad]
    want, got = (f(x)[0] for f in (layer, call))
    assert got.requires_grad == want.requires_grad == bool(learns)
    if learns:
        equal(*(torch.autograd.grad(y.square().sum(), learns) for y in (got, want)))


@pytest.mark.parametrize("backend", NAMED)
def test_a_changing_number_of_rows_and_steps_is_compiled_once(backend: str) -> None:
    layer = GRU(WIDTH, HIDDEN, backend=backend)
    call = whole(layer, dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for sizes in ((9, 5), (4, 3), (17, 8)):
            equal(results(call, layer, sizes, silent=False), results(layer, layer, sizes, silent=False))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.quick(4)
def test_the_operation_is_registered_as_pytorch_wants_it(extra: str, reset_after: bool) -> None:
    layer = GRU(WIDTH, HIDDEN, reset_after=reset_after, backend="torch")
    tensors = [torch.randn(STEPS, BATCH, WIDTH).requires_grad_(), torch.randn(BATCH, HIDDEN).requires_grad_()]
    ragged, resets = (EXTRAS[extra].get(name) for name in ("lengths", "reset_mask"))
    weights = layer.weights(0)[:4]
    for drawn, p in ((None, 0.2), (torch.rand(STEPS, BATCH, HIDDEN) < 0.3, 0.0)):
        arguments = (*tensors, *weights, ragged, resets, drawn, reset_after, False, p, True)
        checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
        torch.library.opcheck(torch.ops.gatelab.gru_torch.default, arguments, test_utils=checks)


@pytest.mark.parametrize("where", list(itertools.product((False, True), repeat=2)))
@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
@pytest.mark.parametrize("backend", NAMED)
@pytest.mark.quick(4)
def test_autocast_does_not_change_the_digits_of_a_compiled_layer(
    backend: str, compiler: str, where: tuple[bool, bool]
) -> None:
    width = 130  # the kernel leaves so wide a product to PyTorch
    layer = GRU(width, HIDDEN, backend=backend)
    found = []
    for call, on in ((layer, (False, False)), (whole(layer, backend=compiler), where)):
        x = torch.linspace(-1, 1, 30 * BATCH * width).view(30, BATCH, width).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on[0]):
            y = call(x)[0]
        loss = y.square().sum()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on[1]):
            found.append([y, *torch.autograd.grad(loss, [x, *layer.parameters()])])
    equal(found[1], found[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_inductor_compiles_a_model_around_it() -> None:
    front, layer = torch.nn.Linear(4, WIDTH), GRU(WIDTH, HIDDEN, 2, backend="torch")
    x, parameters = torch.randn(STEPS, BATCH, 4), [*front.parameters(), *layer.parameters()]

    def loss(x: Tensor) -> Tensor:
        return layer(front(x).tanh())[0].square().sum()

    want = torch.autograd.grad(loss(x), parameters)
    torch.testing.assert_close(torch.autograd.grad(torch.compile(loss, fullgraph=True)(x), parameters), want)


READ = ("x", "h0", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
SETS = [needed for k in range(1, 7) for needed in itertools.combinations(READ, k)]


@pytest.mark.parametrize("needed", SETS, ids="+".join)
@pytest.mark.parametrize("backend", NAMED)
@pytest.mark.quick(6)
@pytest.mark.quick(6, rest="ci")
def test_an_edit_before_backward_is_refused_in_a_graph_only_where_it_is_without(
    backend: str, needed: tuple[str, ...]
) -> None:
    layer = GRU(WIDTH, HIDDEN, backend=backend)
    x, h0 = torch.randn(STEPS, BATCH, WIDTH), torch.randn(1, BATCH, HIDDEN)
    every = {"x": x, "h0": h0, **dict(layer.named_parameters())}
    for name, tensor in every.items():
        tensor.requires_grad_(name in needed)

    def found(call: Callable[..., Any], edited: str) -> list[Tensor] | str:
        kept = every[edited].detach().clone()
        y, h_n = call(x, h0)
        with torch.no_grad():
            every[edited].add_(0.5)
        outer = [torch.ones_like(y), torch.full_like(h_n, 2)]
        try:
            return [*torch.autograd.grad([y, h_n], [every[name] for name in needed], outer)]
        except RuntimeError as error:
            return re.sub(r".*modified by an inplace operation.*", "refused", str(error), flags=re.DOTALL)
        finally:
            with torch.no_grad():
                every[edited].copy_(kept)

    compiled = whole(layer)
    for edited in READ:
        plain, graph = found(layer, edited), found(compiled, edited)
        if isinstance(plain, str) or isinstance(graph, str):
            assert graph == plain, edited
        else:
            equal(graph, plain)

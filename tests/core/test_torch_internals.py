"""Private names of PyTorch that the core uses are there and mean what they meant."""

from pathlib import Path

import torch

from gatelab.core import torch_internals


def test_a_scan_is_the_loop() -> None:
    xs = torch.arange(6.0).view(3, 2)
    carry, ys = torch_internals.scan(lambda h, x: (0.5 * h + x, (0.5 * h + x).clone()), torch.ones(2), xs)
    h = torch.ones(2)
    for x, y in zip(xs, ys, strict=True):
        h = 0.5 * h + x
        assert torch.equal(y, h)
    assert torch.equal(carry, h)


def test_an_exporter_is_told_and_a_compiler_is_none() -> None:
    class Told(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if torch_internals.is_exporting() else x

    x = torch.ones(2)
    assert torch.export.export(Told(), (x,)).module()(x).sum() == 4
    assert torch.compile(Told(), backend="eager", fullgraph=True)(x).sum() == 2
    assert not torch_internals.is_exporting()


def test_the_function_behind_nn_gru_is_nn_gru() -> None:
    layer, x = torch.nn.GRU(3, 5), torch.randn(4, 2, 3)
    h0 = torch.randn(1, 2, 5)
    want = layer(x, h0)
    for training in (True, False):
        got = torch_internals.gru(x, h0, list(layer._flat_weights), True, training)
        for a, b in zip(got, want, strict=True):
            assert torch.equal(a, b)


def test_an_obstacle_is_told_and_ordinary_code_has_none() -> None:
    x, whole = torch.randn(3), torch_internals.obstacle

    def told(*tensors: torch.Tensor | None) -> str:
        return str(whole("cpu", tensors))

    seen: list[str] = []
    torch.func.grad(lambda a: seen.append(told(a)) or a.sum())(x)
    with torch.autograd.forward_ad.dual_level():
        seen.append(told(x))
    torch.jit.trace(lambda a: seen.append(told(a)) or a + 1, (x,), check_trace=False)
    with torch._subclasses.fake_tensor.FakeTensorMode() as mode:
        seen.append(told())
    for one, word in zip(seen, ("torch.func", "forward-mode", "traces", "dispatch mode"), strict=True):
        assert word in one
    own = type("Own", (torch.Tensor,), {})
    functional = torch._to_functional_tensor(x)  # type: ignore[attr-defined]
    for bad in (x.to("meta"), mode.from_tensor(x), x.as_subclass(own), torch._neg_view(x), functional):
        assert "plain memory" in told(x, None, bad)
    with torch.inference_mode():
        inferred = torch.randn(3)
        assert whole("cpu", (x, inferred)) is None
    parameter = type("OwnParameter", (torch.nn.Parameter,), {})(x)
    with torch.device("cpu"), torch.autocast("cpu"), torch.no_grad():
        assert whole("cpu", (x, None, torch.nn.Parameter(x), parameter, inferred, x > 0)) is None


def test_hooks_of_a_module_are_told() -> None:
    for register in (
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ):
        module = torch.nn.Linear(2, 2)
        assert not torch_internals.is_hooked(module)
        getattr(module, register)(lambda *_: None)
        assert torch_internals.is_hooked(module)


def test_a_kept_graph_is_told() -> None:
    told = []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: object, grad: torch.Tensor) -> torch.Tensor:
            told.append(torch_internals.keeps_graph())
            return grad * 2

    x = torch.ones(2, requires_grad=True)
    y = Watched.apply(x).sum()
    torch.autograd.grad(y, x, retain_graph=True)
    torch.autograd.grad(y, x)
    assert told == [True, False]


def test_amx_is_what_linux_says_of_the_processor() -> None:
    told = Path("/proc/cpuinfo")
    flags = told.read_text() if told.is_file() else ""
    assert torch_internals.has_amx() == (" amx_tile" in flags)

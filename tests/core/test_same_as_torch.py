"""A layer gives what its namesake in torch.nn gives, whatever is done to it or around it; else one BackendError.

Families: transforms x layers x backends, edits of weights x backends, tensors that are not plain memory, ways to copy a
layer, threads and forks. A call that could kill the process runs in a process of its own.
"""

import copy
import io
import itertools
import multiprocessing
import pickle
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functional_call, functionalize, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrize, prune
from torch.nn.utils.parametrizations import weight_norm

from gatelab.core import GRU, LSTM, RNN, MinGRU, baselines
from gatelab.core.backends import BACKENDS, BackendError, native

STEPS, BATCH, WIDTH, HIDDEN = 3, 2, 3, 4
SHAPES = {
    "one": {},
    "stack": {"num_layers": 2, "bidirectional": True},
    "bare": {"bias": False, "batch_first": True},
}
MISSING = {"cudnn", "triton"} | ({"native"} if native.UNAVAILABLE else set())  # the first two need a GPU
NAMED = [name for name in BACKENDS if name not in MISSING]
CHOICES = ["auto", *NAMED]
Layer = Callable[[Tensor], Tensor]


def pair(backend: str = "auto", kind: type = GRU, **options: Any) -> tuple[Any, Any]:
    """Ours and torch.nn's, with the same weights."""
    extra = {"backend": backend} if kind is GRU else {}
    ours = kind(WIDTH, HIDDEN, **options, **extra)
    theirs = getattr(nn, kind.__name__)(WIDTH, HIDDEN, **options)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def near(got: Any, want: Any, tolerance: float = 2e-5) -> None:
    """Assert that two nests of tensors have the same shapes and values, to the digits of float32."""
    if isinstance(want, Tensor):
        assert got is not None
        assert got.shape == want.shape
        if not (got.is_meta or isinstance(got, torch._subclasses.FakeTensor)):
            torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance, check_dtype=False)
    elif isinstance(want, dict):
        assert got.keys() == want.keys()
        for key in want:
            near(got[key], want[key], tolerance)
    elif isinstance(want, tuple | list):
        for a, b in zip(got, want, strict=True):
            near(a, b, tolerance)
    else:
        assert got == want


def same_or_refused(backend: str, run: Callable[[Any], Any], ours: Any, theirs: Any) -> None:
    """`run` gives the same of both layers; a named backend may raise BackendError, "auto" and reference may not."""
    want, refusal = run(theirs), ""
    try:
        got = run(ours)
    except (BackendError, torch._dynamo.exc.Unsupported) as error:  # strict export quotes it in its own error
        refusal = str(error)
    if refusal:
        assert backend in ("torch", "native"), "auto and reference serve everything"
        assert "cannot serve this call" in refusal
        assert "backend='reference'" in refusal or "backend='auto'" in refusal
        return
    near(got, want)


def params(layer: Any) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in layer.named_parameters()}


def scalar(layer: Any, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    y = functional_call(layer, weights, (x,))[0]
    return (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum()


def per_sample(layer: Any, x: Tensor) -> Any:
    """Gradients of the weights for each sample; nn.GRU has no batching rule, there the samples are looped over."""
    first = layer.batch_first
    one = grad(lambda w, row: scalar(layer, w, row.unsqueeze(0 if first else 1)))
    rows = x if first else x.transpose(0, 1)
    if isinstance(layer, nn.RNNBase):
        found = [one(params(layer), row) for row in rows]
        return {name: torch.stack([f[name] for f in found]) for name in found[0]}
    return vmap(one, (None, 0))(params(layer), rows)


def ensemble(layer: Any, x: Tensor) -> Tensor:
    scales = torch.tensor([0.5, 1.0, 2.0])

    def one(scale: Tensor) -> Tensor:
        return functional_call(layer, {name: scale * w for name, w in params(layer).items()}, (x,))[0]

    if isinstance(layer, nn.RNNBase):
        return torch.stack([one(s) for s in scales])
    return vmap(one)(scales)


def traced(layer: Any, x: Tensor, frozen: bool) -> Any:
    with warnings.catch_warnings(), torch.set_grad_enabled(not frozen):
        warnings.simplefilter("ignore")
        made = torch.jit.trace(layer, (x,))
        longer = torch.cat((x, x), dim=1 if layer.batch_first else 0)
        again = made(longer + 1) if isinstance(layer, GRU | nn.GRU) else None
        return made(x.flip(0).contiguous() + 1), again


def in_a_graph(layer: Any, x: Tensor, **how: Any) -> Tensor:
    with torch.no_grad():
        return make_fx(lambda w, a: functional_call(layer, w, (a,))[0], **how)(params(layer), x)(
            params(layer), x + 1
        )


def exported(layer: Any, x: Tensor, strict: bool) -> Any:
    return torch.export.export(layer, (x,), strict=strict).module()(x + 1)


def compiled(layer: Any, x: Tensor) -> Any:
    torch._dynamo.reset()
    x = x.clone().requires_grad_()
    y = torch.compile(layer, backend="eager")(x)[0]
    return y, torch.autograd.grad(y.square().sum(), x)


def compiled_inside(transform: Callable[..., Any], layer: Any, x: Tensor) -> Any:
    torch._dynamo.reset()
    return torch.compile(lambda a: transform(lambda b: layer(b)[0].square().sum(), a), backend="eager")(x)


def compiled_outside(transform: Callable[..., Any], layer: Any, x: Tensor) -> Any:
    torch._dynamo.reset()
    return transform(torch.compile(lambda b: layer(b)[0].square().sum(), backend="eager"), x)


def along_ones(f: Callable[[Tensor], Tensor], x: Tensor) -> Any:
    return jvp(f, (x,), (torch.ones_like(x),))


def gradient(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return grad(f)(x)


def dual_gradient(layer: Any, x: Tensor) -> Any:
    x = x.clone().requires_grad_()
    y = layer(x)[0]
    with forward_ad.dual_level():
        outer = forward_ad.make_dual(torch.ones_like(y), 2 * torch.ones_like(y))
        return forward_ad.unpack_dual(torch.autograd.grad(y, x, outer)[0]).tangent


def compiled_backward(layer: Any, x: Tensor) -> Any:
    x = x.clone().requires_grad_()
    y = layer(x)[0]
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        y.square().sum().backward()
    return x.grad


def dual(layer: Any, x: Tensor) -> Any:
    layer.requires_grad_(False)
    with forward_ad.dual_level():
        y = layer(forward_ad.make_dual(x, torch.ones_like(x)))[0]
        return forward_ad.unpack_dual(y).tangent


def dual_weight(layer: Any, x: Tensor) -> Any:
    w = layer.weight_hh_l0.detach()
    with forward_ad.dual_level():
        y = functional_call(layer, {"weight_hh_l0": forward_ad.make_dual(w, torch.ones_like(w))}, (x,))[0]
        return forward_ad.unpack_dual(y).tangent


def batched_gradients(layer: Any, x: Tensor) -> Any:
    x = x.clone().requires_grad_()
    y = layer(x)[0]
    return torch.autograd.grad(
        y, [x, *layer.parameters()], torch.randn(5, *y.shape, generator=seed()), is_grads_batched=True
    )


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def twice(layer: Any, x: Tensor) -> Any:
    x = x.clone().requires_grad_()
    y = layer(x)[0]
    (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    return torch.autograd.grad(g.square().sum(), [x, *layer.parameters()])


def checkpointed(layer: Any, x: Tensor, reentrant: bool) -> Any:
    from torch.utils.checkpoint import checkpoint

    x = x.clone().requires_grad_()
    y = checkpoint(lambda a: layer(a)[0], x, use_reentrant=reentrant)
    return torch.autograd.grad(y.square().sum(), x) if not reentrant else y


def hooked(layer: Any, x: Tensor) -> Any:
    seen: list[Tensor] = []
    handles = [
        layer.register_forward_pre_hook(lambda _, args: (args[0] + 1,)),
        layer.register_forward_hook(lambda _, args, out: seen.append(out[0])),
    ]
    y = layer(x)[0]
    for handle in handles:
        handle.remove()
    return y, seen


def under(context: Callable[[], Any], layer: Any, x: Tensor) -> Any:
    with context():
        return layer(x)


def fake(layer: Any, x: Tensor) -> Any:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        y = layer(mode.from_tensor(x))[0]
    return y.shape


def defaults(layer: Any, x: Tensor) -> Any:
    """PyTorch's default dtype and device say what new tensors are, not what a layer computes in."""
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            x = x.detach().requires_grad_()
            y = layer(x)[0]
            return y, torch.autograd.grad(y.square().sum(), x)
    finally:
        torch.set_default_dtype(torch.float32)


def backward_under_autocast(layer: Any, x: Tensor) -> Any:
    """It has the digits of forward's dtype: torch.nn's, and the plain loop's, is that of autocast."""
    x = x.clone().requires_grad_()
    y = layer(x)[0]
    written = not isinstance(layer, nn.RNNBase) and getattr(layer, "backend", "reference") != "reference"
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=written):
        return torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])


def changed_in_place(layer: Any, x: Tensor, **how: bool) -> Any:
    """Results are no views: they may be changed or detached in place, in another mode than they were made in."""
    with torch.set_grad_enabled(how["grad"]):
        y, h = layer(x)
    parts, scale = [y, *(h if isinstance(h, tuple) else (h,))], torch.ones(1, requires_grad=True)
    for part in parts:
        part.mul_(2 * scale)
        part.detach_()
    return parts, [part.stride() for part in parts]


def empty_batch(layer: Any, x: Tensor) -> Any:
    x = (x[:0] if layer.batch_first else x[:, :0]).requires_grad_()
    y = layer(x)[0]
    return y, torch.autograd.grad(y.sum(), [x, *layer.parameters()])


def only_the_state_learns(layer: Any, x: Tensor) -> Any:
    layer.requires_grad_(False)
    first = layer(x)[1]
    start = [torch.ones_like(s).requires_grad_() for s in (first if isinstance(first, tuple) else (first,))]
    y = layer(x, start[0] if len(start) == 1 else tuple(start))[0]
    return torch.autograd.grad(y.square().sum(), start)


def converted_by_swapping(layer: Any, x: Tensor) -> Any:
    with torch.no_grad():
        layer(x)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        return layer.double()(x.double())
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


class Model(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor):  # type: ignore[no-untyped-def]
        y, state = self.layer(x)
        return y.relu(), state


def script_of_a_model(layer: Any, x: Tensor) -> Any:
    y, state = torch.jit.script(Model(layer))(x)
    return y, state, torch.autograd.grad(y.sum(), list(layer.parameters()))


def packed_dropout(layer: Any, x: Tensor) -> Any:
    layer.dropout = 0.5
    lengths = [STEPS] * BATCH if not layer.batch_first else [BATCH] * STEPS
    lengths[-1] = 1
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), layer.batch_first)
    torch.manual_seed(4)
    y, state = layer(packed)
    return y.data, state


def compiled_twice(layer: Any, x: Tensor) -> Any:
    torch._dynamo.reset()
    return twice(torch.compile(layer, backend="eager"), x)


def script_of_a_trace(layer: Any, x: Tensor) -> Any:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        file = io.BytesIO()
        torch.jit.save(torch.jit.trace(layer.eval(), (x,)), file)
        file.seek(0)
        return torch.jit.load(file)(x + 1)


TRANSFORMS: dict[str, Callable[[Any, Tensor], Any]] = {
    "eager": lambda m, x: m(x),
    "grad": lambda m, x: grad(lambda w: scalar(m, w, x))(params(m)),
    "grad of input": lambda m, x: grad(lambda a: scalar(m, params(m), a))(x),
    "vjp": lambda m, x: vjp(lambda a: m(a)[0], x)[1](torch.ones(m(x)[0].shape)),
    "jvp": lambda m, x: jvp(lambda a: m(a)[0], (x,), (torch.ones_like(x),)),
    "jvp of weights": lambda m, x: jvp(lambda w: functional_call(m, w, (x,))[0], (params(m),), (params(m),)),
    "jacrev": lambda m, x: jacrev(lambda a: m(a)[0][:, 0])(x),
    "jacfwd": lambda m, x: (
        jacfwd(lambda a: m(a)[0], randomness="same")(x)
        if not isinstance(m, nn.RNNBase)
        else jacrev(lambda a: m(a)[0], chunk_size=1)(x)
    ),
    "hessian": lambda m, x: (
        hessian(lambda a: m(a)[0].sum())(x)
        if not isinstance(m, nn.RNNBase)
        else torch.autograd.functional.hessian(lambda a: m(a)[0].sum(), x)
    ),
    "per-sample gradients": per_sample,
    "ensemble": ensemble,
    "jit.trace": partial(traced, frozen=False),
    "jit.trace, no_grad": partial(traced, frozen=True),
    "jit.save of a trace": script_of_a_trace,
    "make_fx": in_a_graph,
    "make_fx, fake": partial(in_a_graph, tracing_mode="fake"),
    "make_fx, symbolic": partial(in_a_graph, tracing_mode="symbolic"),
    "functionalize": lambda m, x: functionalize(lambda a: m(a)[0])(x),
    "fake tensors": fake,
    "meta": lambda m, x: copy.deepcopy(m).to("meta")(x.to("meta"))[0].shape,
    "default dtype and device": defaults,
    "export": partial(exported, strict=False),
    "export, strict": partial(exported, strict=True),
    "compile": compiled,
    "compile, grad in it": partial(compiled_inside, gradient),
    "compile, jvp in it": partial(compiled_inside, along_ones),
    "compile in grad": partial(compiled_outside, gradient),
    "compile in jvp": partial(compiled_outside, along_ones),
    "dual gradient": dual_gradient,
    "forward AD": dual,
    "forward AD of a weight": dual_weight,
    "batched gradients": batched_gradients,
    "jacobian, vectorized": lambda m, x: torch.autograd.functional.jacobian(
        lambda a: m(a)[0], x, vectorize=True
    ),
    "double backward": twice,
    "checkpoint": partial(checkpointed, reentrant=False),
    "checkpoint, reentrant": partial(checkpointed, reentrant=True),
    "saved on the CPU": partial(under, torch.autograd.graph.save_on_cpu),
    "autocast": lambda m, x: (
        under(partial(torch.autocast, "cpu", enabled=True), m, x)[0].float()
        if not isinstance(m, nn.RNNBase)
        else m(x)[0]
    ),
    "inference_mode": partial(under, torch.inference_mode),
    "no_grad": lambda m, x: under(torch.no_grad, m, x.clone().requires_grad_()),
    "hooks": hooked,
    "views": lambda m, x: m(x.flip(0).transpose(0, 1).contiguous().transpose(0, 1)),
    "expanded": lambda m, x: m(x[:1, :1].expand_as(x)),
    "negated view": lambda m, x: m(torch._neg_view(x)),
    "subclass": lambda m, x: m(x.as_subclass(type("Own", (Tensor,), {})))[0].as_subclass(Tensor),
    "double": lambda m, x: copy.deepcopy(m).double()(x.double()),
    "backward under autocast": backward_under_autocast,
    "results changed in place": partial(changed_in_place, grad=True),
    "results of no_grad changed in place": partial(changed_in_place, grad=False),
    "empty batch": empty_batch,
    "only the state learns": only_the_state_learns,
    "converted by swapping": converted_by_swapping,
    "symbolic tracing": lambda m, x: torch.fx.symbolic_trace(Model(m))(x),
    "jit.script": script_of_a_model,
    "packed dropout": packed_dropout,
    "compile, double backward": compiled_twice,
    "output changed in place": lambda m, x: torch.autograd.grad(m(x.requires_grad_())[0].mul_(2).sum(), x),
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


HEAVY = [
    t for t in TRANSFORMS if any(word in t for word in ("export", "compile", "hessian", "make_fx", "jit"))
]


def transforms_and_backends() -> list[Any]:
    cases = []
    for transform, backend in itertools.product(TRANSFORMS, CHOICES):
        quick = ["auto", NAMED[HEAVY.index(transform) % len(NAMED)]] if transform in HEAVY else CHOICES
        marks = () if backend in quick else pytest.mark.slow
        cases.append(pytest.param(transform, backend, marks=marks, id=f"{transform}-{backend}"))
    return cases


@pytest.mark.parametrize(("transform", "backend"), transforms_and_backends())
@pytest.mark.quick(9, rest="ci")
def test_a_gru_equals_nn_gru_under(transform: str, backend: str) -> None:
    """Of the heavy ones the quick run has "auto" and each named backend in turns."""
    for options in [SHAPES["one"]] if transform in HEAVY else SHAPES.values():
        ours, theirs = pair(backend, **options)
        x = torch.randn(STEPS, BATCH, WIDTH)
        same_or_refused(backend, lambda layer, x=x: TRANSFORMS[transform](layer, x.clone()), ours, theirs)


@pytest.mark.parametrize("kind", [LSTM, RNN])
@pytest.mark.parametrize(
    "transform",
    [t for t in TRANSFORMS if not any(word in t for word in ("compile", "export", "make_fx, "))],
)
@pytest.mark.quick(37, rest="ci")
def test_lstm_and_rnn_equal_torch_nn_under(transform: str, kind: type) -> None:
    ours, theirs = pair(kind=kind, bidirectional=True)
    x = torch.randn(STEPS, BATCH, WIDTH)
    got = TRANSFORMS[transform](ours, x.clone())
    with torch.backends.mkldnn.flags(enabled=False):  # its LSTM has no forward-mode derivative
        near(got, TRANSFORMS[transform](theirs, x.clone()))


@pytest.mark.parametrize("backend", CHOICES)
@pytest.mark.parametrize(
    "transform", ["grad of input", "jvp", "make_fx", "jit.trace", "fake tensors", "meta", "functionalize"]
)
@pytest.mark.quick(3, rest="ci")
def test_ragged_rows_and_resets_hold_under(transform: str, backend: str) -> None:
    lengths, resets = torch.tensor([3, 1]), torch.rand(STEPS, BATCH) < 0.4

    class With(nn.Module):
        def __init__(self, layer: GRU, **extra: Any) -> None:
            super().__init__()
            self.layer, self.extra, self.batch_first = layer, extra, False
            self.weight_hh_l0 = layer.weight_hh_l0

        def forward(self, x: Tensor) -> Any:
            device = x.device.type
            return self.layer(x, **{name: t.to(device) for name, t in self.extra.items()})

    both = {"lengths": lengths, "reset_mask": resets}
    for extra in [both] if transform in HEAVY else [both, {"lengths": lengths}, {"reset_mask": resets}]:
        ours, _ = pair(backend, bidirectional=True)
        oracle = GRU(WIDTH, HIDDEN, bidirectional=True, backend="reference")
        oracle.load_state_dict(ours.state_dict())
        x = torch.randn(STEPS, BATCH, WIDTH)
        run = lambda layer, x=x: TRANSFORMS[transform](layer, x.clone())  # noqa: E731
        same_or_refused(backend, run, With(ours, **extra), With(oracle, **extra))


def through_numpy(layer: Any) -> None:
    layer.weight_hh_l0.detach().numpy()[5] = 0.5


def assigned(layer: Any) -> None:
    state = {name: value * 1.5 for name, value in layer.state_dict().items()}
    layer.load_state_dict(state, assign=True)


def replaced(layer: Any) -> None:
    layer.weight_hh_l0 = nn.Parameter(layer.weight_hh_l0.detach() + 0.25)


def with_data(layer: Any) -> None:
    layer.weight_hh_l0.data = layer.weight_hh_l0.data.flip(0)


def swapped(layer: Any) -> None:
    """Two entries change places: a sum over the weights would not see it."""
    w = layer.weight_hh_l0.data
    w[0, 0], w[1, 1] = w[1, 1].item() + 1, w[0, 0].item() - 1


def optimized(layer: Any) -> None:
    layer(torch.ones(STEPS, BATCH, WIDTH))[0].square().sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.5).step()


class Doubled(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return 2 * w


def tied(layer: Any) -> None:
    layer.bias_hh_l0 = layer.bias_ih_l0
    layer.bias_ih_l0.data[0] = 3


def no_grad(change: Callable[[Any], Any]) -> Callable[[Any], None]:
    def edit(layer: Any) -> None:
        with torch.no_grad():
            change(layer)

    return edit


EDITS: dict[str, Callable[[Any], Any]] = {
    "a column through .data": lambda m: m.weight_hh_l0.data[:, 3].zero_(),
    "one entry of a bias through .data": lambda m: m.bias_ih_l0.data[5:6].fill_(3),
    "one bit": lambda m: m.weight_ih_l0.data.view(torch.int32)[7, 1:2].bitwise_xor_(1 << 22),
    "a row through numpy": through_numpy,
    "in place": no_grad(lambda m: m.weight_hh_l0.mul_(2)),
    "a view of a view": no_grad(lambda m: m.weight_hh_l0.view(-1)[3:9].view(2, 3).t().fill_(1.0)),
    "through the storage": lambda m: torch.empty(0).set_(m.weight_hh_l0.untyped_storage()).fill_(0.1),
    "two entries swapped": swapped,
    "load_state_dict": lambda m: m.load_state_dict({k: -v for k, v in m.state_dict().items()}),
    "load_state_dict(assign=True)": assigned,
    "another Parameter": replaced,
    ".data = another": with_data,
    "tied biases": tied,
    "frozen": lambda m: m.requires_grad_(False),
    "one weight frozen": lambda m: m.weight_ih_l0.requires_grad_(False),
    "a step of SGD": optimized,
    "vector_to_parameters": lambda m: nn.utils.vector_to_parameters(
        torch.linspace(-1, 1, sum(p.numel() for p in m.parameters())), m.parameters()
    ),
    "double and back": lambda m: m.double().float(),
    "to meta and back": lambda m: m.to_empty(device="cpu").load_state_dict(
        {k: torch.linspace(-1, 1, v.numel()).view(v.shape) for k, v in m.state_dict().items()}
    ),
    "shared memory": lambda m: m.share_memory(),
    "in inference mode": lambda m: under(torch.inference_mode, lambda _: m.weight_hh_l0.data.add_(1), m),
    "parametrize": lambda m: parametrize.register_parametrization(m, "weight_hh_l0", Doubled()),
    "weight_norm": lambda m: weight_norm(m, "weight_hh_l0"),
    "the old weight_norm": lambda m: nn.utils.weight_norm(m, "weight_hh_l0"),
    "pruned": lambda m: prune.l1_unstructured(m, "weight_hh_l0", 0.5),
    "strided weights": lambda m: setattr(
        m, "weight_hh_l0", nn.Parameter(m.weight_hh_l0.detach().t().contiguous().t())
    ),
}


@pytest.mark.parametrize("backend", CHOICES)
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.quick(34, rest="ci")
def test_every_edit_of_the_weights_is_seen_at_once(edit: str, backend: str) -> None:
    for inference, options in itertools.product((True, False), (SHAPES["one"], SHAPES["stack"])):
        x = torch.randn(STEPS, BATCH, WIDTH)
        layers = pair(backend, **options)
        found = []
        for layer in layers:
            with torch.set_grad_enabled(not inference):
                layer(x)
            EDITS[edit](layer)
            with torch.set_grad_enabled(not inference):
                found.append([layer(x), layer(x)])
            EDITS["in place"](layer) if edit == "frozen" else None
        near(*found)


@pytest.mark.parametrize("what", ["weight_ih_l0", "weight_hh_l0", "bias_hh_l0", "x", "y", "h0"])
@pytest.mark.parametrize("backend", CHOICES)
def test_an_edit_between_forward_and_backward_is_seen_as_nn_gru_sees_it(backend: str, what: str) -> None:
    """Through `.data`, which moves no version: saved tensors share memory with the edited ones."""
    if (backend, what) == ("reference", "h0"):
        pytest.skip("autograd differentiates the plain loop, whose last product reads h0 again as well")

    def gradients(layer: nn.Module, x: Tensor, h0: Tensor) -> Any:
        y, h_n = layer(x, h0)
        edited = {"x": x, "y": y, "h0": h0}.get(what)
        (layer.get_parameter(what) if edited is None else edited).data.mul_(0.5)
        return torch.autograd.grad([y, h_n], [x, h0, *layer.parameters()], [torch.ones_like(y), h_n.detach()])

    sizes = (STEPS, BATCH, WIDTH), (1, BATCH, HIDDEN)
    given = [torch.randn(size) for size in sizes]
    found = [gradients(layer, *(t.clone().requires_grad_() for t in given)) for layer in pair(backend)]
    near(*found)


READ = ("x", "h0", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("what", READ)
@pytest.mark.parametrize("backend", CHOICES)
@pytest.mark.quick(5, rest="ci")
def test_an_edit_in_place_before_backward_is_refused_where_nn_gru_refuses_it(
    backend: str, what: str, steps: int
) -> None:
    """Whatever needs a gradient: only what a gradient reads again may not be edited between the two passes."""

    def found(layer: nn.Module, needed: tuple[str, ...], x: Tensor, h0: Tensor) -> Any:
        every = {"x": x.clone(), "h0": h0.clone(), **dict(layer.named_parameters())}
        for name, tensor in every.items():
            tensor.requires_grad_(name in needed)
        y, h_n = layer(every["x"], every["h0"])
        with torch.no_grad():
            every[what].add_(0.5)
        outer = [torch.ones_like(y), torch.full_like(h_n, 2)]
        try:
            return torch.autograd.grad([y, h_n], [every[name] for name in needed], outer)
        except RuntimeError as error:
            return re.sub(r".*modified (by an )?inplace.*", "refused", str(error), flags=re.DOTALL)

    for needed in (n for k in range(1, 7) for n in itertools.combinations(READ, k)):
        x, h0 = torch.randn(steps, BATCH, WIDTH), torch.randn(1, BATCH, HIDDEN)
        near(*(found(layer, needed, x, h0) for layer in pair(backend)))


@pytest.mark.parametrize("what", READ[2:])
@pytest.mark.parametrize("backend", CHOICES)
def test_a_second_pass_over_a_graph_sees_an_edit_as_nn_gru_sees_it(backend: str, what: str) -> None:
    def gradients(layer: nn.Module, x: Tensor) -> Any:
        x = x.clone().requires_grad_()
        y = layer(x)[0].square().sum()
        first = torch.autograd.grad(y, [x, *layer.parameters()], retain_graph=True)
        layer.get_parameter(what).data.mul_(0.5)
        return *first, *torch.autograd.grad(y, [x, *layer.parameters()])

    x = torch.randn(STEPS, BATCH, WIDTH)
    near(*(gradients(layer, x) for layer in pair(backend)))


@pytest.mark.parametrize("what", READ[4:])
@pytest.mark.parametrize("backend", [name for name in NAMED if name != "reference"])
def test_a_second_derivative_refuses_a_bias_that_was_edited(backend: str, what: str) -> None:
    layer, x = GRU(WIDTH, HIDDEN, backend=backend), torch.randn(STEPS, BATCH, WIDTH).requires_grad_()
    y = layer(x)[0].square().sum()
    with torch.no_grad():
        layer.get_parameter(what).mul_(0.5)
    torch.autograd.grad(y, x, retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(y, x, create_graph=True)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("to", ["other values", "float64", "rows in another order"])
@pytest.mark.parametrize("what", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "x", "h0"])
@pytest.mark.parametrize("backend", CHOICES)
def test_other_memory_between_forward_and_backward_is_seen_by_neither(
    backend: str, what: str, to: str, again: bool
) -> None:
    """`.data = other` and `.double()` leave what autograd saved as it was; also in a second pass over the graph."""

    def gradients(layer: nn.Module, x: Tensor, h0: Tensor) -> Any:
        x, h0 = x.requires_grad_(), h0.requires_grad_()
        given = {"x": x * 1, "h0": h0 * 1}
        y, h_n = layer(given["x"], given["h0"])
        wanted, outer = [x, h0, *layer.parameters()], [torch.ones_like(y), h_n.detach()]
        if again:
            torch.autograd.grad([y, h_n], wanted, outer, retain_graph=True)
        edited = given[what] if what in given else layer.get_parameter(what)
        old = edited.data
        other = {"other values": old * 2 + 1, "float64": old.double(), "rows in another order": old.flip(0)}
        edited.data = other[to]
        if to == "float64":  # gradients have the dtype that their leaf has now: ask for those of the others
            wanted = [w for w in wanted if w is not edited]
        return torch.autograd.grad([y, h_n], wanted, outer)

    given = torch.randn(STEPS, BATCH, WIDTH), torch.randn(1, BATCH, HIDDEN)
    near(*(gradients(layer, *(t.clone() for t in given)) for layer in pair(backend)))


@pytest.mark.parametrize("backend", [name for name in NAMED if name != "reference"])
def test_a_second_derivative_refuses_weights_with_other_memory(backend: str) -> None:
    layer, x = GRU(WIDTH, HIDDEN, backend=backend), torch.randn(STEPS, BATCH, WIDTH).requires_grad_()
    y = layer(x)[0]
    layer.weight_hh_l0.data = layer.weight_hh_l0.data * 2
    with pytest.raises(RuntimeError, match=r"other memory through \.data"):
        torch.autograd.grad(y.square().sum(), x, create_graph=True)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan"), 1e30])
@pytest.mark.parametrize("what", ["x", "h0", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
@pytest.mark.parametrize("backend", CHOICES)
@pytest.mark.quick(52, rest="ci")
def test_an_endless_number_gives_what_it_gives_nn_gru(backend: str, what: str, value: float) -> None:
    """NaN where it has NaN, infinite where it is infinite, in values and in gradients."""
    for at, options in enumerate((SHAPES["one"], SHAPES["stack"])):
        found = []
        given = [torch.randn(STEPS, BATCH, WIDTH), torch.randn(4 if options else 1, BATCH, HIDDEN)]
        for layer in pair(backend, **options):
            x, h0 = (t.clone() for t in given)
            edited = {"x": x, "h0": h0}.get(what)
            edited = layer.get_parameter(what).data if edited is None else edited
            edited.view(-1)[5 * at + 1 if edited.numel() > 11 else at] = value
            y, h_n = layer(x.requires_grad_(), h0.requires_grad_())
            with torch.no_grad():
                silent = layer(x, h0)
            inputs = [x, h0, *layer.parameters()]
            gradients = torch.autograd.grad([y, h_n], inputs, [torch.ones_like(y), torch.ones_like(h_n)])
            found.append([y.detach(), h_n.detach(), *silent, *gradients])
        for got, want in zip(*found, strict=True):
            torch.testing.assert_close(got, want, rtol=2e-4, atol=2e-5, equal_nan=True)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("backend", CHOICES)
def test_an_endless_state_gives_what_the_equation_gives(backend: str, value: float) -> None:
    """With `reset_after=False`, which nn.GRU lacks: h' = (1 - z) h + z n, where h + z (n - h) would lose n."""
    for seed in range(4):
        torch.manual_seed(seed)
        plain, ours = (GRU(WIDTH, HIDDEN, reset_after=False, backend=name) for name in ("reference", backend))
        ours.load_state_dict(plain.state_dict())
        x, h0 = torch.randn(STEPS, BATCH, WIDTH), torch.randn(1, BATCH, HIDDEN)
        h0[0, 1, 1] = value
        (want, _), (got, _) = plain(x, h0), ours(x, h0)
        torch.testing.assert_close(got, want, rtol=2e-4, atol=2e-5, equal_nan=True)
        with torch.no_grad():
            torch.testing.assert_close(ours(x, h0)[0], want, rtol=2e-4, atol=2e-5, equal_nan=True)


@pytest.mark.parametrize("backend", ["auto", "native"])
@pytest.mark.quick(1, rest="ci")
def test_a_compiled_graph_gives_of_an_endless_number_what_nn_gru_gives(backend: str) -> None:
    torch._dynamo.reset()
    layer, theirs = pair(backend)
    ours = torch.compile(layer, backend="aot_eager")
    given = torch.randn(STEPS, BATCH, WIDTH), torch.randn(1, BATCH, HIDDEN)
    for place, value in itertools.product((0, 1), (float("inf"), -float("inf"), float("nan"), 3e38)):
        inputs = [t.clone() for t in given]
        inputs[place].view(-1)[7] = value
        found = []
        for call, module in ((theirs, theirs), (ours, layer)):
            x, h0 = (t.clone().requires_grad_() for t in inputs)
            y, h_n = call(x, h0)
            wanted = [x, h0, *module.parameters()]
            gradients = torch.autograd.grad([y, h_n], wanted, [torch.ones_like(y), torch.ones_like(h_n)])
            with torch.no_grad():
                found.append([y.detach(), h_n.detach(), call(x, h0)[0], *gradients])
        for got, want in zip(*reversed(found), strict=True):
            torch.testing.assert_close(got, want, rtol=2e-4, atol=2e-5, equal_nan=True)


@pytest.mark.parametrize("where", list(itertools.product((False, True), repeat=3)))
@pytest.mark.parametrize("backend", CHOICES)
def test_a_second_derivative_inside_autocast_is_as_near_as_that_of_nn_gru(backend: str, where: tuple) -> None:
    def second(layer: nn.Module, forward: bool, first: bool, again: bool) -> Tensor:
        x = torch.linspace(-1, 1, STEPS * BATCH * WIDTH).view(STEPS, BATCH, WIDTH).requires_grad_()
        with torch.autocast("cpu", enabled=forward):
            y = layer(x)[0]
        with torch.autocast("cpu", enabled=first):
            (g,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
        with torch.autocast("cpu", enabled=again):
            return torch.autograd.grad(g.float().square().sum(), layer.get_parameter("weight_hh_l0"))[0]

    ours, theirs = pair(backend)
    exact, got = second(theirs, False, False, False), second(ours, *where)
    assert (got - exact).abs().max() <= 0.03 * exact.abs().max()  # bfloat16 has 8 bits
    if backend in ("torch", "native") and not where[2]:
        near(got, exact)  # the layer keeps its own precision, as long as PyTorch's own backward does


@pytest.mark.parametrize("backend", CHOICES)
def test_a_copied_layer_is_the_layer(backend: str) -> None:
    copies: list[Callable[[Any], Any]] = [
        copy.deepcopy,
        lambda m: pickle.loads(pickle.dumps(m)),
        lambda m: torch.load(saved(m), weights_only=False),
    ]
    x = torch.randn(STEPS, BATCH, WIDTH)
    ours, theirs = pair(backend, **SHAPES["stack"])
    with torch.no_grad():
        want = ours(x)
        near(want, theirs(x))
        for make in copies:
            twin = make(ours)
            near(twin(x), want, 0)
            twin.weight_hh_l0 = nn.Parameter(twin.weight_hh_l0.detach() * 2)
            near(ours(x), want, 0)
            assert not torch.equal(twin(x)[0], want[0])


def saved(layer: Any) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return file


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_those_of_nn_gru(dtype: torch.dtype) -> None:
    ours, theirs = (layer.to(dtype) for layer in pair())
    x = torch.randn(STEPS, BATCH, WIDTH, dtype=dtype)
    near(ours(x), theirs(x), {torch.float16: 4e-3, torch.bfloat16: 3e-2, torch.float64: 1e-12}[dtype])
    with (
        pytest.raises(BackendError, match="float32")
        if native.UNAVAILABLE is None
        else pytest.raises(RuntimeError)
    ):
        GRU(WIDTH, HIDDEN, backend="native", dtype=dtype)(x)


@pytest.mark.parametrize("backend", CHOICES)
def test_threads_do_not_disturb_one_another(backend: str) -> None:
    """Each thread has its own transform, weights are swapped under all of them, and every result is one of two."""
    ours, theirs = pair(backend)
    x, states = torch.randn(STEPS, BATCH, WIDTH), []
    for factor in (1.0, -1.0):
        states.append({k: factor * v for k, v in theirs.state_dict().items()})
    wrong: list[Any] = []
    with torch.no_grad():
        want = [functional_call(theirs, state, (x,))[0] for state in states]

    def call(index: int) -> None:
        own = copy.deepcopy(ours)
        for _ in range(40):
            with torch.no_grad():
                got = functional_call(own, states[index], (x,))[0]
            if not torch.allclose(got, want[index], atol=1e-5):
                wrong.append(index)
            if backend == "auto":
                grad(lambda a: ours(a)[0].sum())(x)

    threads = [threading.Thread(target=call, args=(i % 2,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def _in_child(layer: Any, x: Tensor, queue: Any) -> None:
    torch.set_num_threads(1)
    with torch.no_grad():
        before = layer(x)[0]
        layer.weight_hh_l0.mul_(2)
        queue.put((before.tolist(), layer(x)[0].tolist()))


@pytest.mark.parametrize("backend", NAMED)
def test_a_forked_child_and_its_parent_share_memory_and_see_each_others_edits(backend: str) -> None:
    ours, theirs = pair(backend)
    x = torch.randn(STEPS, BATCH, WIDTH)
    ours.share_memory()
    with torch.no_grad():
        first = ours(x)[0]
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=_in_child, args=(ours, x, queue))
        child.start()
        before, after = queue.get()
        child.join()
        theirs.weight_hh_l0.mul_(2)
        near(torch.tensor(before), first)
        near(torch.tensor(after), theirs(x)[0])
        near(ours(x), theirs(x))


def test_explain_tells_what_is_in_the_way() -> None:
    layer, x = GRU(WIDTH, HIDDEN), torch.randn(STEPS, BATCH, WIDTH)
    told: list[Any] = []

    def ask(a: Tensor) -> Tensor:
        told.append(layer.explain(a))
        return layer(a)[0].sum()

    grad(ask)(x)
    with forward_ad.dual_level():
        ask(x)
    with FakeTensorMode(allow_non_fake_inputs=True):
        ask(x)
    layer.to("meta")
    ask(x.to("meta"))
    for one, word in zip(told, ("torch.func", "forward-mode", "dispatch mode", "plain memory"), strict=True):
        assert one.backend == "reference"
        assert word in one.reason


@pytest.mark.ci
def test_what_would_kill_the_process_does_not() -> None:
    """Tensors without memory reach a layer in every way that skips the usual modes."""
    code = """
import itertools, torch, gatelab
from torch._subclasses.fake_tensor import FakeTensorMode
mode, real = FakeTensorMode(allow_non_fake_inputs=True), torch.randn(3, 2, 3)
bad = {"fake": mode.from_tensor(real), "meta": real.to("meta"), "functional": torch._to_functional_tensor(real),
       "sparse": real.to_sparse(), "zero": torch._efficientzerotensor(3, 2, 3)}
for backend, (name, x), inference in itertools.product(("auto", "torch", "native"), bad.items(), (True, False)):
    layer = gatelab.GRU(3, 4, backend=backend)
    with torch.set_grad_enabled(not inference):
        for call in (lambda: layer(x), lambda: layer(real, x[:1, :, :1].expand(1, 2, 4))):
            try:
                call()
            except Exception as error:
                assert "\\x00" not in str(error)
layer, y = gatelab.GRU(3, 4), None
y = layer(real.requires_grad_())[0]
for g in (torch._efficientzerotensor(3, 2, 4), torch._neg_view(torch.ones(3, 2, 4))):
    (found,) = torch.autograd.grad(y, real, g, retain_graph=True)
    (want,) = torch.autograd.grad(y, real, g + 0, retain_graph=True)
    assert torch.allclose(found, want, atol=1e-6)
print("alive")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "alive", done.stderr[-2000:]


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"reset_after": False}], ids=str)
def test_the_layer_itself_goes_into_onnx(options: dict[str, Any]) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    layer, file = GRU(WIDTH, HIDDEN, bidirectional=True, **options).eval(), io.BytesIO()
    given = (torch.randn(STEPS, BATCH, WIDTH), torch.randn(2, BATCH, HIDDEN))
    torch.onnx.export(layer, given, file, dynamo=False, input_names=["x", "h"], verbose=False)
    onnx.checker.check_model(onnx.load_model_from_string(file.getvalue()))
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": given[0].numpy(), "h": given[1].numpy()})
    near([torch.from_numpy(f) for f in found], list(layer(*given)))


@pytest.mark.parametrize(
    "transform", ["grad of input", "jvp", "jacrev", "make_fx", "jit.trace", "forward AD"]
)
def test_min_gru_is_itself_under(transform: str) -> None:
    """It has no namesake: its oracle is the loop over steps that torch.export makes of it."""
    layer, x = MinGRU(WIDTH, HIDDEN), torch.randn(STEPS, BATCH, WIDTH)
    run = TRANSFORMS[transform]
    found = run(layer, x.clone())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "linear_scan", by_steps)
        near(found, run(layer, x.clone()))


def by_steps(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    states = []
    for t in range(a.shape[0]):
        h = a[t] * h + b[t]
        states.append(h)
    return torch.stack(states)


@pytest.mark.slow
def test_a_compiled_backward_pass_is_that_of_nn_gru() -> None:
    ours, theirs = pair()
    x = torch.randn(STEPS, BATCH, WIDTH)
    near(compiled_backward(ours, x), compiled_backward(theirs, x))

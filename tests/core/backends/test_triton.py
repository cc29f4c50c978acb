"""The triton backend without a GPU: its kernels in Triton's interpreter, and what its compiler makes of them."""

import functools
import importlib.util
import itertools
import random
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gatelab import GRU
from gatelab.core import backends as dispatch
from gatelab.core.backends import BackendError, Spec, choose, explain, reference, resolve, triton_gru

triton = pytest.importorskip("triton", reason="Triton cannot be installed here")
layer = importlib.import_module("gatelab.core.backends.triton_gru.layer")

A100, H100 = layer.Chip(108, 166912), layer.H100
SMALL = layer.Chip(132, 1024)
"""A chip on which nothing fits."""
LEAST_SHARED = 101376
"""Bytes of fast memory that a program may have on the smallest chips (compute capability 8.6, 8.9, 12.0)."""
FLOAT32, TF32 = layer.Numbers(4, "tf32x3", 2), layer.Numbers(4, "tf32", 1)
HALF = layer.Numbers(2, "tf32", 1)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels are interpreted, whatever the environment said when they were imported."""
    monkeypatch.setattr(layer, "kernels", _interpreted_kernels())
    monkeypatch.setattr(triton_gru, "INTERPRETED", True)
    layer.chip_of.cache_clear()
    yield
    layer.chip_of.cache_clear()


@pytest.fixture
def too_large(interpreted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of no layer fit on the chip."""
    _let_nothing_fit(monkeypatch)


def _let_nothing_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "H100", SMALL)
    layer.chip_of.cache_clear()


@functools.cache
def _interpreted_kernels() -> Any:
    """`kernels.py` once more, and `parts.py`, which it imports, as functions that are interpreted."""
    with triton.knobs.runtime.scope(), pytest.MonkeyPatch.context() as patch:
        triton.knobs.runtime.interpret = True
        for name in ("parts", "kernels"):
            path = f"{triton_gru.__name__}.{name}"
            spec = importlib.util.find_spec(path)
            assert spec is not None
            assert spec.loader is not None
            made = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, path, made)
            spec.loader.exec_module(made)
    return made


def _cases(count: int, *hidden: int) -> list[dict[str, Any]]:
    """Shapes and options that leave nothing out: each value of each option occurs many times."""
    draw = random.Random(0)
    options = list(
        itertools.product((True, False), (True, False), (True, False), (True, False), ("no", "drawn", "p"))
    )
    draw.shuffle(options)
    names = ("reset_after", "reverse", "lengths", "resets", "zoneout")
    sizes = {"steps": (1, 2, 3), "batch": (1, 3, 17), "inputs": (1, 5), "hidden": hidden}
    return [
        {name: draw.choice(values) for name, values in sizes.items()}
        | dict(zip(names, options[i], strict=True))
        for i in range(count)
    ]


def _name(case: dict[str, Any]) -> str:
    return "-".join(f"{key}={value}" for key, value in case.items())


def _answer(run: Any, dtype: torch.dtype, case: dict[str, Any]) -> dict[str, Tensor]:
    """Outputs, gradients, and the outputs without gradients, of a layer whose tensors the case draws."""
    draw = torch.Generator().manual_seed(sum(case[name] for name in ("steps", "batch", "hidden")))
    steps, batch, inputs, hidden = (case[name] for name in ("steps", "batch", "inputs", "hidden"))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    x, h0, dy, dh = (
        normal(steps, batch, inputs),
        normal(batch, hidden),
        normal(steps, batch, hidden),
        normal(batch, hidden),
    )
    weights = [normal(3 * hidden, n) / 3 for n in (inputs, hidden)] + [normal(3 * hidden), normal(3 * hidden)]
    given: dict[str, Any] = {"reset_after": case["reset_after"], "reverse": case["reverse"]}
    given["lengths"] = torch.randint(0, steps + 1, (batch,), generator=draw) if case["lengths"] else None
    given["reset_mask"] = torch.rand(steps, batch, generator=draw) < 0.3 if case["resets"] else None
    drawn = torch.rand(steps, batch, hidden, generator=draw) < 0.3
    given["zoneout"] = {"no": None, "drawn": drawn, "p": 0.2}[case["zoneout"]]
    if given["lengths"] is not None:
        x[torch.arange(steps).unsqueeze(1) >= given["lengths"]] = 0
    tensors = [t.to(dtype).requires_grad_() for t in (x, h0, *weights[: 4 if case["reset_after"] else 3])]
    every = [*tensors, *[None] * (8 - len(tensors))]
    y, h_n = run(*every, **given)
    names = ("dx", "dh0", "dw_ih", "dw_hh", "db_ih", "db_hh")
    grads = torch.autograd.grad((y, h_n), tensors, (dy.to(dtype), dh.to(dtype)))
    with torch.no_grad():
        y_only, h_only = run(*every, **given)
    found = {"y": y, "h_n": h_n, "y of inference": y_only, "h_n of inference": h_only}
    return {k: v.detach() for k, v in found.items()} | dict(zip(names, grads, strict=False))


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("case", _cases(30, 1, 7, 16, 17, 33), ids=_name)
@pytest.mark.quick(4, rest="ci")
def test_like_the_oracle(case: dict[str, Any]) -> None:
    _like_the_oracle(case)


@pytest.mark.usefixtures("too_large")
@pytest.mark.parametrize("case", _cases(20, 1, 17, 64, 65, 130), ids=_name)
@pytest.mark.quick(4, rest="ci")
def test_like_the_oracle_where_the_weights_are_read_in_each_step(case: dict[str, Any]) -> None:
    _like_the_oracle(case)


def _like_the_oracle(case: dict[str, Any]) -> None:
    want, bars = _bars(case)
    got = _answer(triton_gru.run, torch.float32, case)
    for name, exact in want.items():
        assert (error := (got[name] - exact).abs().max()) <= bars[name], f"{name}: {error:.1e}"


def _bars(case: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The answers in float64, and how far from them, or from one another, answers in float32 may be."""
    want = _answer(reference.run_either_way, torch.float64, case)
    plain = _answer(reference.run_either_way, torch.float32, case)
    largest = {name: exact.abs().max().clamp(min=1e-3) for name, exact in want.items()}
    return want, {name: 2 * (plain[name] - want[name]).abs().max() + 1e-6 * largest[name] for name in want}


def _spread(t: Any) -> Any:
    """The same numbers with a gap after each: a view that is not contiguous in any dimension."""
    return torch.stack((t, t), dim=-1)[..., 0] if isinstance(t, Tensor) else t


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("reset_after", [True, False])
def test_any_strides_will_do(reset_after: bool) -> None:
    case = {"steps": 3, "batch": 3, "inputs": 5, "hidden": 7, "reset_after": reset_after, "reverse": False}
    case |= {"lengths": True, "resets": True, "zoneout": "drawn"}

    def spread(*tensors: Any, **given: Any) -> tuple[Tensor, Tensor]:
        y, h_n = triton_gru.run(*map(_spread, tensors), **{k: _spread(v) for k, v in given.items()})
        # the gradients come back through these, and are not contiguous either
        return y.mT.contiguous().mT, h_n.mT.contiguous().mT

    want, got = (_answer(run, torch.float32, case) for run in (triton_gru.run, spread))
    for name, exact in want.items():
        assert torch.equal(got[name], exact), name


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("reset_after", [True, False])
def test_every_result_begins_where_its_memory_does(reset_after: bool) -> None:
    """Inductor counts on it: it asserts that the results of an operation begin at an aligned address."""
    case = {"steps": 2, "batch": 3, "inputs": 5, "hidden": 7, "reset_after": reset_after, "reverse": False}
    case |= {"lengths": False, "resets": False, "zoneout": "no"}
    found = _answer(triton_gru.run, torch.float32, case)
    assert not [name for name, value in found.items() if value.storage_offset()]


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("reset_after", [True, False])
def test_it_answers_alike_whether_the_weights_are_kept_or_read_in_each_step(
    reset_after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = {"steps": 2, "batch": 3, "inputs": 2, "hidden": 70, "reset_after": reset_after, "reverse": True}
    case |= {"lengths": True, "resets": True, "zoneout": "drawn"}
    assert layer.choose_tiles(70, FLOAT32, 3, H100).kept
    kept = _answer(triton_gru.run, torch.float32, case)
    _let_nothing_fit(monkeypatch)
    read = _answer(triton_gru.run, torch.float32, case)
    for name, bar in _bars(case)[1].items():
        assert (read[name] - kept[name]).abs().max() <= bar, name


@pytest.mark.usefixtures("interpreted")
def test_float16_keeps_its_state_in_float32() -> None:
    case = {"steps": 3, "batch": 2, "inputs": 3, "hidden": 17, "reset_after": True, "reverse": False}
    case |= {"lengths": True, "resets": True, "zoneout": "no"}
    want, got = (
        _answer(reference.run_either_way, torch.float64, case),
        _answer(triton_gru.run, torch.float16, case),
    )
    for name, exact in want.items():
        assert (got[name] - exact).abs().max() <= 2e-2 * exact.abs().max(), name


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("bidirectional", [False, True])
def test_under_autocast_it_multiplies_in_half_and_answers_in_float32(bidirectional: bool) -> None:
    gru = GRU(3, 7, 2, bidirectional=bidirectional, backend="triton")
    exact = GRU(3, 7, 2, bidirectional=bidirectional, backend="reference")
    exact.load_state_dict(gru.state_dict())
    x, lengths = torch.randn(3, 2, 3), torch.tensor([2, 3])
    with torch.autocast("cpu", torch.float16):  # the interpreter cannot add in bfloat16
        y, h_n = gru(x, lengths=lengths)
        assert "triton runs" in str(gru.explain(x, lengths=lengths))
    grads = torch.autograd.grad(y.square().sum() + h_n.sum(), list(gru.parameters()))
    y_exact, h_exact = exact(x, lengths=lengths)
    want = torch.autograd.grad(y_exact.square().sum() + h_exact.sum(), list(exact.parameters()))
    for got, right in zip((y, h_n, *grads), (y_exact, h_exact, *want), strict=True):
        assert got.dtype == torch.float32
        error = (got - right).abs().max() / right.abs().max()
        assert 1e-5 < error < 1e-2  # not computed in float32, and as near as eleven bits are


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(("kept", "hidden"), [(True, 7), (False, 65)])
def test_every_number_is_written(kept: bool, hidden: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """New memory holds NaN: none of it may reach a result."""
    if not kept:
        _let_nothing_fit(monkeypatch)
    case = {"steps": 2, "batch": 3, "inputs": 2, "hidden": hidden, "reset_after": False, "reverse": True}
    case |= {"lengths": True, "resets": True, "zoneout": "p"}
    empty = Tensor.new_empty

    def poisoned(self: Tensor, *size: Any, **options: Any) -> Tensor:
        made = empty(self, *size, **options)
        return made.fill_(float("nan")) if made.is_floating_point() else made

    monkeypatch.setattr(Tensor, "new_empty", poisoned)
    for after in (True, False):
        found = _answer(triton_gru.run, torch.float32, {**case, "reset_after": after})
        assert all(value.isfinite().all() for value in found.values())


@pytest.mark.usefixtures("interpreted")
def test_compiled_and_differentiated_twice() -> None:
    torch.manual_seed(0)
    ours, x = GRU(3, 5, backend="triton"), torch.randn(2, 2, 3, requires_grad=True)
    plain = GRU(3, 5, backend="reference")
    plain.load_state_dict(ours.state_dict())
    compiled = torch.compile(lambda a: ours(a)[0], fullgraph=True, backend="aot_eager")
    for gru in (compiled, lambda a: ours(a)[0]):
        once = [torch.autograd.grad(f(x).square().sum(), x)[0] for f in (gru, lambda a: plain(a)[0])]
        torch.testing.assert_close(*once)
    twice = []
    for gru in (ours, plain):
        (first,) = torch.autograd.grad(gru(x)[0].square().sum(), x, create_graph=True)
        twice.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*twice)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """An H100 as far as `layer` asks for it."""
    fake = types.ModuleType("torch")
    about = types.SimpleNamespace(multi_processor_count=132, shared_memory_per_block_optin=layer.H100.shared)
    asked = {"is_available": True, "current_device": 0, "get_device_capability": (9, 0)}
    given = {name: lambda *_, value=value: value for name, value in asked.items()}
    fake.__dict__.update(vars(torch))
    fake.cuda = types.SimpleNamespace(**given, get_device_properties=lambda _: about)
    monkeypatch.setattr(layer, "torch", fake)
    layer.chip_of.cache_clear()
    yield
    layer.chip_of.cache_clear()


@pytest.mark.usefixtures("gpu")
def test_a_compiled_graph_asks_nothing_of_the_device_and_holds_for_any_batch() -> None:
    chosen = []

    def count(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        chosen.append(graph)
        return graph

    def of_the_choice(x: Tensor) -> Tensor:
        spec = Spec("cuda", x.dtype, True, False, False, hidden=32, batch=x.shape[1], steps=x.shape[0])
        return x + choose(spec)[0].count("triton")

    compiled = torch.compile(of_the_choice, fullgraph=True, backend=count)
    for batch in (3, 4, 5, 6):
        assert torch.equal(compiled(torch.zeros(2, batch)), torch.ones(2, batch))
    assert len(chosen) == 2  # for a batch of 3, and for any


LARGE = Spec("cuda", torch.float32, True, False, False, hidden=2048, batch=1, steps=2)
STEP_BY_STEP = (
    "one launch a step, because the weights of 2048 units in float32 (50 MB) do not fit on this GPU's chip"
)


@pytest.mark.usefixtures("gpu")
def test_a_layer_whose_weights_do_not_fit_on_the_chip_runs_step_by_step_if_it_is_named() -> None:
    told = explain("triton", LARGE)
    assert (told.backend, told.reason) == ("triton", f"it was named. It takes {STEP_BY_STEP}")
    assert resolve("triton", LARGE).name == "triton"
    assert explain("triton", LARGE._replace(hidden=512)).reason == "it was named"


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("change", [{"reset_after": False}, {"has_reset_mask": True}, {"zoneout": True}])
@pytest.mark.parametrize("hidden", [2048, 512])
def test_auto_takes_step_by_step_before_a_loop_and_after_cudnn(
    hidden: int, change: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    measured = {"triton": 1.0, "cudnn": 2.0, "torch": 3.0}  # of a layer that fits
    monkeypatch.setattr(dispatch, "table", lambda *_: {dispatch.Point(False, False, 512, 1, 2): measured})
    dispatch._by_table.cache_clear()
    spec = LARGE._replace(hidden=hidden)
    told, odd = explain("auto", spec), explain("auto", spec._replace(**change))
    dispatch._by_table.cache_clear()
    assert odd.backend == "triton"
    if hidden == 512:
        assert told.backend == "triton"
        assert "a step" not in str(told) + str(odd)
    else:
        assert told.backend == "cudnn"
        assert told.others["triton"] == f"cudnn was chosen before it; it would take {STEP_BY_STEP}"
        assert odd.reason == f"no other kernel can serve this call. It takes {STEP_BY_STEP}"


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("change", [{"hidden": 30000}, {"hidden": 1024, "batch": 2**19}])
def test_more_numbers_than_the_kernels_count_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(BackendError, match="in 32 bits"):
        resolve("triton", LARGE._replace(**change))
    fewer = {name: size // 2 for name, size in change.items()}
    assert resolve("triton", LARGE._replace(**fewer)).name == "triton"


def test_refuses_by_name() -> None:
    with pytest.raises(BackendError, match="CUDA device and the input is on cpu"):
        GRU(3, 5, backend="triton")(torch.zeros(2, 1, 3))
    spec = Spec("cuda", torch.float64, True, False, False, hidden=5, batch=1, steps=2)
    assert "not in torch.float64" in str(explain("triton", spec))
    spec = spec._replace(dtype=torch.float32, layer_norm=True)
    assert "no layer normalisation" in str(explain("triton", spec))


# what the compiler makes of the kernels, for a GPU that is not here


ARCHITECTURES = {A100: 80, H100: 90}
KERNELS = ("forward_after", "backward_after", "forward_before", "backward_before")
SOME = [(H100, HALF, 512, 64, name) for name in KERNELS]
SOME += [(H100, HALF, 1024, 64, "backward_after"), (H100, FLOAT32, 512, 64, "backward_after")]
SOME += [(A100, HALF, 512, 64, "forward_after"), (A100, FLOAT32, 256, 16, "backward_before")]
ALL = list(
    itertools.product((A100, H100), (FLOAT32, HALF), (64, 128, 256, 512, 768, 1024), (16, 64), KERNELS)
)
REST = [case for case in ALL if case not in SOME]


@pytest.mark.parametrize(("chip", "kind", "hidden", "batch", "name"), SOME)
def test_compiled_within_the_limits(chip: Any, kind: Any, hidden: int, batch: int, name: str) -> None:
    tiles = layer.choose_tiles(hidden, kind, batch, chip)
    assert tiles.kept
    _within_limits(chip, kind, hidden, name, tiles)


def test_what_is_rounded_does_not_hang_on_the_default_of_triton() -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import make_backend

    with triton.knobs.language.scope():
        triton.knobs.language.default_fp_fusion = False
        assert make_backend(GPUTarget("cuda", 90, 32)).parse_options(dict(layer.OPTIONS)).enable_fp_fusion


@pytest.mark.slow
@pytest.mark.parametrize(("chip", "kind", "hidden", "batch", "name"), REST)
def test_whole_table_within_the_limits(chip: Any, kind: Any, hidden: int, batch: int, name: str) -> None:
    tiles = layer.choose_tiles(hidden, kind, batch, chip)
    if not tiles.kept:
        pytest.skip(f"{hidden} units of {kind.size} bytes do not fit on {chip}: see the test of such layers")
    _within_limits(chip, kind, hidden, name, tiles)


PARTS = [("forward_after", 0), ("backward_after", 0), *itertools.product(KERNELS[2:], (1, 2))]
"""The launches of a step, where the weights are not kept."""
FLOATS, HALVES = ((FLOAT32, "fp32"), (TF32, "fp32")), ((HALF, "bf16"), (HALF, "fp16"))
LARGE_ONES = [(FLOAT32, "fp32", 1024, 16)]
LARGE_ONES += [(*kind, hidden, 16) for kind, hidden in itertools.product((*FLOATS, *HALVES), (2048, 4096))]
LARGE_ONES += [(*kind, hidden, 64) for kind, hidden in itertools.product(HALVES, (2048, 4096))]


@pytest.mark.parametrize("chip", [A100, H100])
@pytest.mark.parametrize(("kind", "number", "hidden", "batch"), LARGE_ONES)
@pytest.mark.parametrize(("name", "part"), PARTS)
@pytest.mark.quick(6, rest="slow")
def test_one_step_of_a_large_layer_compiled_within_the_limits(
    chip: Any, kind: Any, number: str, hidden: int, batch: int, name: str, part: int
) -> None:
    tiles = layer.choose_tiles(hidden, kind, batch, chip)
    assert not tiles.kept
    made = _compiled(chip, kind, hidden, name, tiles, number, part)
    assert not re.search(r"red\.release|ld\.acquire|atom\.", made.asm["ptx"])  # there is nobody to wait for
    assert _resources(made.asm["cubin"])[1] == 0
    assert made.metadata.shared <= LEAST_SHARED


def _within_limits(chip: Any, kind: Any, hidden: int, name: str, tiles: Any) -> None:
    """No number spilled from the registers, shared memory as announced, all programs of some rows at the same time."""
    made = _compiled(chip, kind, hidden, name, tiles, {2: "bf16", 4: "fp32"}[kind.size])
    assert "red.release.gpu" in made.asm["ptx"]  # the interpreter has another way to wait and to arrive
    assert "atom." not in made.asm["ptx"]
    registers, spilled = _resources(made.asm["cubin"])
    assert spilled == 0
    assert made.metadata.shared <= chip.shared
    threads = 32 * tiles.warps
    together = min((chip.shared + 1024) // (made.metadata.shared + 1024), 65536 // (registers * threads))
    assert tiles.programs(hidden) <= chip.processors * together


def _compiled(chip: Any, kind: Any, hidden: int, name: str, tiles: Any, number: str, part: int = 0) -> Any:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(importlib.import_module("gatelab.core.backends.triton_gru.kernels"), name)
    k1, k2 = tiles.blocks(hidden, kind)
    constants = {"H": hidden, "K1": k1, "K2": k2, "SPLIT": tiles.warps, "BB": tiles.rows, "BU": tiles.units}
    constants |= {"PROGRAMS": tiles.programs(hidden), "PART": part, "KEPT": tiles.kept, "REVERSE": False}
    constants |= {"RAGGED": True, "RESETS": True, "MORE": True, "BIAS": True, "PRECISION": kind.precision}
    signature = {n: "constexpr" if n in constants else f"*{number}" for n in kernel.arg_names}
    signature |= dict.fromkeys(("first", "last", "steps", "batch", "begin"), "i32")
    signature |= {"p": "fp32", "lengths": "*i64", "resets": "*i8", "counters": "*i32"}
    if name.startswith("backward") or not tiles.kept:
        signature["end"] = "*fp32"
    if not tiles.kept:
        signature["start"] = "*fp32"
    places = {n: (kernel.arg_names.index(n),) for n in signature}
    aligned = {
        places[n]: [["tt.divisibility", 16]] for n, kind_of in signature.items() if kind_of.startswith("*")
    }
    source = ASTSource(kernel, signature, {places[n]: v for n, v in constants.items()}, aligned)
    target = GPUTarget("cuda", ARCHITECTURES[chip], 32)
    options = {**layer.OPTIONS, **(layer.TOGETHER if tiles.kept else {})}
    return triton.compile(source, target=target, options={"num_warps": tiles.warps, **options})


def _resources(cubin: bytes, tool: str = "cuobjdump") -> tuple[int, int]:
    """Registers of a thread, and bytes of its stack, where what does not fit into them is spilled."""
    import tempfile

    command = Path(triton.__file__).parent / "backends/nvidia/bin" / tool
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(
            [command, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", done.stdout)
    assert found is not None, done.stdout
    return int(found[1]), int(found[2])

"""GRU as a drop-in for torch.nn.GRU: everything that code written for the one relies on in the other."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

from gatelab.core.backends import BackendError
from gatelab.core.gru import GRU

OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 3},
    {"bias": False},
    {"batch_first": True},
    {"bidirectional": True, "num_layers": 2},
    {"num_layers": 2, "dropout": 0.25},
]


def _twins(*sizes: int, **options: Any) -> tuple[GRU, nn.GRU]:
    ours = GRU(*sizes, dtype=torch.float64, **options)
    theirs = nn.GRU(*sizes, dtype=torch.float64, **options)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def _same(got: Any, want: Any) -> None:
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", OPTIONS)
def test_repr_parameters_and_initial_values_are_those_of_nn_gru(options: dict[str, Any]) -> None:
    torch.manual_seed(7)
    ours = GRU(3, 5, **options)
    torch.manual_seed(7)
    theirs = nn.GRU(3, 5, **options)
    assert repr(ours) == repr(theirs)
    assert [(n, p.shape) for n, p in ours.named_parameters()] == [
        (n, p.shape) for n, p in theirs.named_parameters()
    ]
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q)
    assert [len(w) for w in ours.all_weights] == [len(w) for w in theirs.all_weights]


@pytest.mark.parametrize("options", OPTIONS)
def test_each_loads_the_other_s_checkpoint(options: dict[str, Any]) -> None:
    ours, theirs = GRU(3, 5, **options), nn.GRU(3, 5, **options)
    file = io.BytesIO()
    torch.save(theirs.state_dict(), file)
    file.seek(0)
    ours.load_state_dict(torch.load(file, weights_only=True))
    nn.GRU(3, 5, **options).load_state_dict(ours.state_dict())
    x = torch.randn(4, 4, 3)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_unbatched_input_with_and_without_a_state(batch_first: bool, bidirectional: bool) -> None:
    ours, theirs = _twins(3, 5, 2, batch_first=batch_first, bidirectional=bidirectional)
    x = torch.randn(7, 3, dtype=torch.float64)
    h = torch.randn(4 if bidirectional else 2, 5, dtype=torch.float64)
    _same(ours(x), theirs(x))
    _same(ours(x, hx=h), theirs(x, hx=h))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("in_order", [False, True])
def test_packed_sequences_come_back_packed(in_order: bool, bidirectional: bool) -> None:
    ours, theirs = _twins(3, 5, 2, bidirectional=bidirectional)
    x = torch.randn(6, 4, 3, dtype=torch.float64)
    lengths = [6, 4, 4, 1] if in_order else [4, 1, 6, 4]
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=in_order)
    h = torch.randn(4 if bidirectional else 2, 4, 5, dtype=torch.float64)
    for state in (None, h):
        (got, h_got), (want, h_want) = ours(packed, state), theirs(packed, state)
        assert isinstance(got, PackedSequence)
        _same(got.data, want.data)
        _same(h_got, h_want)
        assert torch.equal(got.batch_sizes, want.batch_sizes)
        for name in ("sorted_indices", "unsorted_indices"):
            a, b = getattr(got, name), getattr(want, name)
            assert (a is None and b is None) or torch.equal(a, b)


def test_lengths_equal_packing() -> None:
    ours, theirs = _twins(3, 5, 2, bidirectional=True)
    rows = [torch.randn(n, 3, dtype=torch.float64) for n in (2, 5, 1)]
    padded = nn.utils.rnn.pad_sequence(rows)
    y, h = ours(padded, lengths=[2, 5, 1])
    packed, h_want = theirs(pack_sequence(rows, enforce_sorted=False))
    _same(y, nn.utils.rnn.pad_packed_sequence(packed)[0])
    _same(h, h_want)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("reset_after", [True, False])
def test_what_the_padding_holds_reaches_nothing(reset_after: bool, backend: Any) -> None:
    gru = GRU(3, 5, 2, bidirectional=True, reset_after=reset_after, backend=backend)
    x = torch.randn(6, 4, 3)
    lengths = torch.tensor([4, 6, 0, 1])
    over = torch.arange(6).unsqueeze(1) >= lengths
    results = []
    for filler in (0.0, float("nan")):
        filled = x.masked_fill(over.unsqueeze(-1), filler).requires_grad_()
        y, h = gru(filled, lengths=lengths)
        grads = torch.autograd.grad(y.square().sum() + h.square().sum(), [filled, *gru.parameters()])
        results.append((y, h, *grads))
        assert not y[over].any()
        assert not grads[0][over].any()
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
        assert a.isfinite().all()


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_reset_mask_equals_running_the_segments_apart(
    bidirectional: bool, reset_after: bool, backend: Any
) -> None:
    gru = GRU(3, 5, 2, bidirectional=bidirectional, reset_after=reset_after, backend=backend)
    gru.to(torch.float64)
    x = torch.randn(9, 1, 3, dtype=torch.float64)
    mask = torch.zeros(9, 1, dtype=torch.bool)
    mask[[0, 4, 7]] = True
    h = torch.randn(4 if bidirectional else 2, 1, 5, dtype=torch.float64)
    y, _ = gru(x, h, reset_mask=mask)
    pieces = []
    for start, stop in ((0, 4), (4, 7), (7, 9)):
        state = torch.zeros_like(h)
        if stop == 9:  # the reverse direction enters at the end, with the state that was given
            state[1::2] = h[1::2] if bidirectional else 0
        pieces.append(gru(x[start:stop], state)[0])
    _same(y, torch.cat(pieces))


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_branch_is_a_step_from_every_state_with_each_of_its_inputs(
    reset_after: bool, layer_norm: bool
) -> None:
    gru = GRU(
        3, 5, 2, bidirectional=True, reset_after=reset_after, layer_norm=layer_norm, dtype=torch.float64
    )
    inputs = torch.randn(2, 4, 3, dtype=torch.float64)  # two groups of four inputs
    state = torch.randn(4, 6, 5, dtype=torch.float64)  # six rows
    got = gru.branch(inputs, state)
    for row in range(6):
        x = inputs[row % 2][None]
        want, _ = gru(x, state[:, row, None].expand(-1, 4, -1).contiguous())
        _same(got[row], want[0])
    with pytest.raises(ValueError, match="zoneout"):
        GRU(3, 5, zoneout=0.1).branch(inputs, state)


def test_unbatched_input_takes_a_reset_mask_of_one_axis() -> None:
    gru, x = GRU(3, 5, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    mask = torch.tensor([False, False, True, False, False, False])
    _same(gru(x, reset_mask=mask)[0], torch.cat((gru(x[:2])[0], gru(x[2:])[0])))


def test_frozen_weights_and_inputs_give_a_result_without_a_graph() -> None:
    gru, x = GRU(3, 5), torch.randn(4, 2, 3)
    want, _ = gru(x)
    y, h = gru.requires_grad_(False)(x)
    torch.testing.assert_close(y, want)
    assert not y.requires_grad
    assert not h.requires_grad


def test_state_is_an_argument_and_carries_over_windows() -> None:
    gru = GRU(3, 5, 2, dtype=torch.float64)
    x = torch.randn(10, 2, 3, dtype=torch.float64)
    whole, h_whole = gru(x)
    parts, state = [], None
    for start in range(0, 10, 3):
        y, state = gru(x[start : start + 3], state)
        parts.append(y)
    _same(torch.cat(parts), whole)
    _same(state, h_whole)
    before = state.clone()
    gru(x, state)
    assert torch.equal(state, before)


def test_dropout_acts_between_layers_in_training_only() -> None:
    ours, theirs = _twins(3, 50, 2, dropout=0.5)
    x = torch.randn(4, 8, 3, dtype=torch.float64)
    _same(ours.eval()(x), theirs.eval()(x))
    ours.train()
    first = GRU(3, 50, dtype=torch.float64)
    first.load_state_dict({k: v for k, v in ours.state_dict().items() if k.endswith("l0")})
    torch.manual_seed(1)
    dropped = nn.functional.dropout(first(x)[0], 0.5)
    top = GRU(50, 50, dtype=torch.float64)
    top.load_state_dict({k.replace("l1", "l0"): v for k, v in ours.state_dict().items() if k.endswith("l1")})
    torch.manual_seed(1)
    _same(ours(x)[0], top(dropped)[0])
    with pytest.warns(UserWarning, match="does nothing"):
        GRU(3, 5, dropout=0.5)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compute_the_same(clone: Any) -> None:
    gru = GRU(3, 5, 2, bidirectional=True, reset_after=False, backend="torch")
    x = torch.randn(4, 2, 3)
    gru(x)[0].sum().backward()
    twin = clone(gru)
    assert repr(twin) == repr(gru)
    assert torch.equal(twin(x)[0], gru(x)[0])
    assert all(p is not q for p, q in zip(twin.parameters(), gru.parameters(), strict=True))


def test_device_and_dtype_are_taken_and_empty_batches_pass() -> None:
    assert GRU(3, 5, device="meta").weight_ih_l0.is_meta
    gru = GRU(3, 5, dtype=torch.bfloat16)
    assert gru(torch.randn(4, 2, 3, dtype=torch.bfloat16))[0].dtype == torch.bfloat16
    y, h = GRU(3, 5, 2, bidirectional=True)(torch.randn(4, 0, 3, requires_grad=True))
    assert y.shape == (4, 0, 10)
    assert h.shape == (4, 0, 5)
    y.sum().backward()


def test_under_autocast_it_runs_in_the_dtype_of_its_weights() -> None:
    gru, x = GRU(3, 5, 2), torch.randn(4, 2, 3)
    want, _ = gru(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, h = gru(x)
        half, _ = gru(x.bfloat16(), torch.zeros(2, 2, 5, dtype=torch.bfloat16))
    assert torch.equal(got, want)
    assert h.dtype == half.dtype == torch.float32


def test_gradients_flow_when_only_h_n_is_used() -> None:
    ours, theirs = _twins(3, 5, 2, bidirectional=True)
    x = torch.randn(6, 4, 3, dtype=torch.float64, requires_grad=True)
    got = torch.autograd.grad(ours(x)[1].square().sum(), [x, *ours.parameters()])
    want = torch.autograd.grad(theirs(x)[1].square().sum(), [x, *theirs.parameters()])
    _same(got, want)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g(torch.zeros(4, 2, 7)), r"input.size\(-1\) must be input_size=3, got 7"),
        (lambda g: g(torch.zeros(4, 2, 2, 3)), "2-D .* or 3-D"),
        (lambda g: g(torch.zeros(0, 2, 3)), "no time steps"),
        (
            lambda g: g(torch.zeros(4, 2, 3), torch.zeros(1, 3, 5)),
            r"\[1, 2, 5\] for this input, got \[1, 3, 5\]",
        ),
        (lambda g: g(torch.zeros(4, 3), torch.zeros(1, 1, 5)), r"\[1, 5\] for this input, got \[1, 1, 5\]"),
        (lambda g: g(torch.zeros(4, 2, 3), (torch.zeros(1, 2, 5),) * 2), "must be 1 tensor"),
        (lambda g: g(torch.zeros(4, 2, 3), lengths=[4, 5]), r"lengths must lie in 0 ... T=4, got \[4, 5\]"),
        (lambda g: g(torch.zeros(4, 2, 3), lengths=[4]), r"lengths must be \[B\] = \[2\], got \[1\]"),
        (
            lambda g: g(torch.zeros(4, 2, 3), reset_mask=torch.zeros(2, 4, dtype=torch.bool)),
            r"reset_mask must be \[T, B\] = \[4, 2\]",
        ),
        (
            lambda g: g(pack_sequence([torch.zeros(2, 3)]), lengths=[2]),
            "already holds its lengths",
        ),
    ],
)
def test_a_wrong_shape_is_named_with_what_was_expected(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(GRU(3, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g(torch.zeros(4, 2, 3, dtype=torch.float64)), "input is torch.float64 but the weights"),
        (lambda g: g(torch.zeros(4, 2, 3), torch.zeros(1, 2, 5).double()), "hx is torch.float64"),
        (lambda g: g(torch.zeros(4, 2, 3), lengths=torch.tensor([1.0, 2.0])), "lengths must be integers"),
        (lambda g: g(torch.zeros(4, 2, 3), reset_mask=torch.zeros(4, 2)), "reset_mask must be bool"),
    ],
)
def test_a_wrong_dtype_is_named(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call(GRU(3, 5))


def test_constructor_arguments_are_checked() -> None:
    for wrong in ({"hidden_size": 0}, {"num_layers": 0}, {"dropout": 1.5}, {"input_size": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            GRU(**{"input_size": 3, "hidden_size": 5, **wrong})
    with pytest.raises(TypeError, match="hidden_size must be an integer"):
        GRU(3, 5.0)
    with pytest.raises(ValueError, match="unknown backend 'fast'"):
        GRU(3, 5, backend="fast")


def test_a_named_backend_runs_or_raises_and_explain_says_which() -> None:
    x = torch.zeros(4, 2, 3)
    gru = GRU(3, 5, backend="cudnn")
    with pytest.raises(BackendError, match="CUDA devices and the input is on cpu"):
        gru(x)
    assert gru.explain(x).backend == "none"
    automatic = GRU(3, 5, dtype=torch.float64).explain(x)
    assert automatic.backend == "torch"
    assert set(automatic.others) == {"reference", "native", "triton", "cudnn"}
    assert "cudnn does not: cuDNN runs on CUDA devices" in str(automatic)
    assert GRU(3, 5, backend="reference").explain(x).reason == "it was named"


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("lengths", [None, [4, 2]])
def test_the_output_may_be_changed_in_place(lengths: Any, backend: Any) -> None:
    gru, x = GRU(3, 5, 2, backend=backend), torch.randn(4, 2, 3)
    results = []
    for change in (lambda y: y * 2, lambda y: y.mul_(2)):
        y = change(gru(x, lengths=lengths)[0])
        results.append(torch.autograd.grad(y.square().sum(), list(gru.parameters())))
    torch.testing.assert_close(*results)


def test_the_final_state_shares_no_memory_with_the_outputs() -> None:
    gru = GRU(3, 5)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            y, h = gru(torch.randn(4, 2, 3))
        assert h.untyped_storage().data_ptr() != y.untyped_storage().data_ptr()
        assert isinstance(h, Tensor)

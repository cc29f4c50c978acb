"""The delegate: it refuses what cuDNN cannot do, and equals the reference where it runs.

The function that it calls runs on a CPU too, so its handling of lengths is tested everywhere; on a CUDA device the
same test runs on cuDNN itself.
"""

import pytest
import torch

from gatelab.core.backends import Spec, cudnn, reference

ON_CUDA = Spec(
    "cuda", torch.float32, True, has_lengths=True, has_reset_mask=False, hidden=8, batch=2, steps=3
)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("ragged", [False, True])
def test_it_equals_the_reference(ragged: bool, bias: bool, device: str) -> None:
    shapes = [(6, 3, 4), (3, 5), (15, 4), (15, 5), (15,), (15,)]
    tensors = [torch.randn(s, dtype=torch.float64, device=device).requires_grad_() for s in shapes]
    arguments = tensors if bias else [*tensors[:4], None, None]
    lengths = torch.tensor([4, 6, 0], device=device) if ragged else None
    results = []
    for backend in (cudnn, reference):
        y, h = backend.run(*arguments, reset_after=True, lengths=lengths, reset_mask=None)
        grads = torch.autograd.grad(y.square().sum() + h.sum(), [t for t in arguments if t is not None])
        results.append((y, h, *grads))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-13)


def spread(t: torch.Tensor) -> torch.Tensor:
    """The same numbers with a gap after each: a view that is not contiguous in any dimension."""
    return torch.stack((t, t), dim=-1)[..., 0]


@pytest.mark.parametrize("device", DEVICES)
def test_any_strides_will_do(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice of a batch, as the gates of a few sequences are looked at; on a CPU with the check that cuDNN makes."""
    plain = torch._VF.gru

    def as_cudnn(x: torch.Tensor, h0: torch.Tensor, *others: object) -> tuple[torch.Tensor, torch.Tensor]:
        assert h0.is_contiguous(), "rnn: hx is not contiguous"
        return plain(x, h0, *others)

    monkeypatch.setattr(torch._VF, "gru", as_cudnn)
    shapes = [(6, 3, 4), (3, 5), (15, 4), (15, 5), (15,), (15,)]
    tensors = [torch.randn(s, dtype=torch.float64, device=device).requires_grad_() for s in shapes]
    lengths = torch.tensor([4, 6, 1], device=device)
    results = []
    for form in (spread, torch.clone):
        y, h = cudnn.run(*map(form, tensors), reset_after=True, lengths=form(lengths))
        grads = torch.autograd.grad((y, h), tensors, (form(y.detach()), form(h.detach())))
        results.append((y, h, *grads))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-13)


@pytest.mark.filterwarnings("ignore")  # what PyTorch says of its own tracing
def test_a_compiler_does_not_take_it_apart() -> None:
    graphs: list[str] = []

    def note(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        graphs.append(str(graph.graph))
        return graph

    x, h, *weights = (torch.randn(s) for s in [(6, 3, 4), (3, 5), (15, 4), (15, 5), (15,), (15,)])

    def twice(x: torch.Tensor) -> torch.Tensor:
        return cudnn.run(x * 2, h, *weights, reset_after=True)[0] * 2

    assert torch.equal(torch.compile(twice, backend=note)(x), twice(x))
    assert len(graphs) == 2
    assert not any("gru" in graph for graph in graphs)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device": "cpu"}, "CUDA devices and the input is on cpu"),
        ({"reset_after": False}, "reset_after=True only"),
        ({"has_reset_mask": True}, "cannot reset"),
        ({"dtype": torch.int32}, "does not compute in torch.int32"),
    ],
)
def test_what_cudnn_cannot_do_is_refused_with_the_reason(
    change: dict[str, object], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    assert cudnn.unsupported(ON_CUDA) is None
    assert reason in str(cudnn.unsupported(ON_CUDA._replace(**change)))
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: False)
    assert "missing" in str(cudnn.unsupported(ON_CUDA))


def test_run_itself_refuses_rather_than_ignores() -> None:
    x = torch.zeros(2, 1, 1)
    weights = (torch.zeros(3, 1), torch.zeros(3, 1), None, None)
    for options in ({"reset_after": False}, {"reset_after": True, "reset_mask": torch.ones(2, 1) > 0}):
        with pytest.raises(ValueError, match="reset_after=True only and no reset_mask"):
            cudnn.run(x, torch.zeros(1, 1), *weights, **options)

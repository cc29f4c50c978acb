"""A core that breaks the contract is refused when the model is made, in one sentence that names what is missing."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gatelab.core import GRU, LSTM, RNN, Forecaster, LanguageModel, MinGRU, TorchGRU, TorchLSTM, TorchRNN
from gatelab.core.contract import check_call


class Whole(nn.Module):
    """The least that the contract asks for."""

    def __init__(self, input_size: int, hidden_size: int = 4) -> None:
        super().__init__()
        self.hidden_size = self.output_size = hidden_size
        self.read = nn.Linear(input_size, hidden_size)

    def forward(
        self, x: Tensor, state: Any = None, *, reset_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        y = self.read(x)
        return y, y[-1]


class NoReset(Whole):
    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x, state)


class NoState(Whole):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x)


def with_size(size: Any) -> Callable[..., nn.Module]:
    def make(input_size: int) -> nn.Module:
        core = Whole(input_size)
        core.output_size = size
        return core

    return make


def without(name: str) -> Callable[..., nn.Module]:
    def make(input_size: int) -> nn.Module:
        core = Whole(input_size)
        delattr(core, name)
        return core

    return make


MODELS = [partial(LanguageModel, 7), partial(Forecaster, 2, 3)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("core", [GRU, LSTM, RNN, MinGRU, TorchGRU, TorchLSTM, TorchRNN, Whole])
def test_a_whole_core_fits(core: type, model: Callable[..., nn.Module]) -> None:
    net = model(core=partial(core, hidden_size=4))
    x = torch.zeros(3, 2, dtype=torch.long) if isinstance(net, LanguageModel) else torch.zeros(2, 3, 2)
    net(x)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("core", "word"),
    [
        (partial(nn.GRU, hidden_size=4), "output_size"),
        (without("output_size"), "output_size"),
        *[(with_size(size), "output_size") for size in (None, 0, "4", True, 4.0)],
        (lambda input_size: lambda x: x, "nn.Module"),
        (partial(GRU, hidden_size=4, batch_first=True), "time-major"),
    ],
)
def test_a_core_that_lacks_something_is_refused_by_name(
    core: Any, word: str, model: Callable[..., nn.Module]
) -> None:
    extra = {"embedding_size": 4} if model is MODELS[0] else {}
    with pytest.raises((TypeError, ValueError), match=word) as caught:
        model(core=core, **extra)
    assert "the core of a" in str(caught.value)
    assert "\n" not in str(caught.value)


class Alone(Whole):
    def forward(self, x: Tensor, state: Any = None) -> Tensor:  # type: ignore[override]
        return self.read(x)


class Turned(Whole):
    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        y = self.read(x).transpose(0, 1)
        return y, y[-1]


class Wider(Whole):
    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return x, x[-1]


class Asks(Whole):
    """Reads a number, which a tensor without memory has not."""

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return (self.read(x), x[-1]) if x.sum().item() >= 0 else (x, x)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("core", "said"),
    [(Alone, "no such pair, but one Tensor"), (Turned, r"of shape \[2, 3, 4\]"), (Wider, r"\[3, 2, 8\]")],
)
def test_what_a_core_must_return_is_said_to_one_that_returns_something_else(
    core: type, said: str, device: str
) -> None:
    with (
        torch.device(device),
        pytest.raises(TypeError, match=rf"must return its outputs \[T, B, 4\].*{said}"),
    ):
        check_call(core(8), 8)


@pytest.mark.parametrize("core", [GRU, LSTM, RNN, MinGRU, TorchGRU, TorchLSTM, TorchRNN, Whole, Asks])
def test_a_whole_core_returns_what_it_must(core: type) -> None:
    for device in ("cpu", "meta"):
        with torch.device(device):
            check_call(core(8, hidden_size=4), 8)


def test_what_only_a_language_model_asks_for_is_asked_for_there_only() -> None:
    Forecaster(2, 3, NoReset)
    Forecaster(2, 3, without("hidden_size"))
    LanguageModel(7, without("hidden_size"), embedding_size=4)
    for core in (NoReset, NoState):
        with pytest.raises(TypeError, match=r"must have forward\(x, state=None, \*, reset_mask=None\)"):
            LanguageModel(7, core)
    with pytest.raises(TypeError, match="hidden_size"):
        LanguageModel(7, without("hidden_size"))

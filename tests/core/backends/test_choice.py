"""The choice: "auto" takes the fastest that can serve the call; a name is final."""

from typing import Any

import pytest
import torch

from gatelab.core.backends import BACKENDS, BackendError, Spec, choose, explain, native, resolve

SPEC = Spec(
    device="cpu",
    dtype=torch.float32,
    reset_after=True,
    has_lengths=False,
    has_reset_mask=False,
    hidden=64,
    batch=32,
    steps=64,
)


def test_auto_takes_the_fastest_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "UNAVAILABLE", None)
    assert choose(SPEC)[0] == "native"
    assert choose(SPEC._replace(dtype=torch.float64))[0] == "torch"
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    on_cuda = SPEC._replace(device="cuda")
    assert choose(on_cuda)[0] == "cudnn"
    assert choose(on_cuda._replace(has_reset_mask=True))[0] == "torch"
    assert choose(on_cuda._replace(reset_after=False))[0] == "torch"
    assert choose(SPEC._replace(dtype=torch.complex64))[0] == "reference"
    assert resolve("auto", SPEC) is BACKENDS["native"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"device": "cuda"}, "the input is on cuda"),
        ({"dtype": torch.float64}, "not in torch.float64"),
        ({"batch": 0}, "the batch is empty"),
        ({}, "is missing"),
    ],
)
def test_native_says_what_it_cannot_do(changes: Any, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "UNAVAILABLE", "the object is missing" if not changes else None)
    spec = SPEC._replace(**changes)
    assert reason in str(native.unsupported(spec))
    with pytest.raises(BackendError, match=reason):
        resolve("native", spec)
    if spec.device == "cpu":
        assert choose(spec)[0] == "torch"


def test_a_named_backend_never_gives_way() -> None:
    for name in ("reference", "torch"):
        assert resolve(name, SPEC).name == name
    with pytest.raises(BackendError, match="'cudnn' cannot serve this call"):
        resolve("cudnn", SPEC)
    with pytest.raises(ValueError, match="the backends are auto, reference, torch, native, cudnn"):
        resolve("fastest", None)


@pytest.mark.parametrize("name", ["auto", *BACKENDS])
def test_the_explanation_is_what_happens(name: str) -> None:
    told = explain(name, SPEC)
    if told.backend == "none":
        with pytest.raises(BackendError, match=told.reason.split(": ")[1]):
            resolve(name, SPEC)
    else:
        assert told.backend == resolve(name, SPEC).name
    assert {told.backend, *told.others} | {name} - {"auto"} >= set(BACKENDS)
    assert str(told).count("\n") == len(told.others)

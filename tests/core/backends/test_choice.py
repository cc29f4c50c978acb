"""The choice: "auto" takes the fastest that can serve the call; a name is final."""

from dataclasses import replace

import pytest
import torch

from gatelab.core.backends import BACKENDS, BackendError, Spec, choose, explain, resolve

SPEC = Spec(device="cpu", dtype=torch.float32, reset_after=True, has_lengths=False, has_reset_mask=False)


def test_auto_takes_the_fastest_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(SPEC)[0] == "torch"
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    on_cuda = replace(SPEC, device="cuda")
    assert choose(on_cuda)[0] == "cudnn"
    assert choose(replace(on_cuda, has_reset_mask=True))[0] == "torch"
    assert choose(replace(on_cuda, reset_after=False))[0] == "torch"
    assert choose(replace(SPEC, dtype=torch.complex64))[0] == "reference"
    assert resolve("auto", SPEC) is BACKENDS["torch"]


def test_a_named_backend_never_gives_way() -> None:
    for name in ("reference", "torch"):
        assert resolve(name, SPEC).name == name
    with pytest.raises(BackendError, match="'cudnn' cannot serve this call"):
        resolve("cudnn", SPEC)
    with pytest.raises(ValueError, match="the backends are auto, reference, torch, cudnn"):
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

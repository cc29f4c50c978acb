"""The choice: "auto" takes the fastest that can serve the call; a name is final."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gatelab.core import backends as dispatch
from gatelab.core.backends import (
    BACKENDS,
    BackendError,
    Spec,
    choose,
    explain,
    native,
    resolve,
)

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


def forget() -> None:
    dispatch.table.cache_clear()
    dispatch._by_table.cache_clear()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Replace the dispatch table by rows of (training, ragged, hidden, batch, steps, microseconds)."""

    def write(*rows: Any) -> None:
        blocks = [
            {
                "training": training,
                "ragged": ragged,
                "hidden": hidden,
                "batch": [batch],
                "steps": [steps],
                "microseconds": {name: [time] for name, time in times.items()} | {"unknown": [None]},
            }
            for training, ragged, hidden, batch, steps, times in rows
        ]
        path = tmp_path / "dispatch.json"
        path.write_text(json.dumps({"cpu": {"float32": blocks}}))
        monkeypatch.setattr(dispatch, "TABLE", path)
        forget()

    monkeypatch.setattr(native, "UNAVAILABLE", None)
    yield write
    monkeypatch.undo()
    forget()


def test_auto_takes_what_was_measured_fastest_at_the_nearest_point(measured: Any) -> None:
    measured(
        (False, False, 64, 32, 64, {"nn.GRU": 1.0, "native": 10.0, "torch": 30.0, "reference": 90.0}),
        (False, False, 64, 32, 1, {"native": 10.0, "torch": 30.0, "reference": 5.0}),
        (True, False, 64, 32, 64, {"native": 30.0, "torch": 10.0}),
        (False, True, 64, 32, 64, {"native": 10.4, "torch": 10.0}),
    )
    assert choose(SPEC._replace(hidden=100, batch=20)) == (
        "native",
        "measured fastest near H=64, B=32, T=64, inference "
        "(torch took 3.00 times as long, reference took 9.00 times as long)",
    )
    assert choose(SPEC._replace(steps=2))[0] == "reference"
    assert choose(SPEC._replace(training=True))[0] == "torch"
    assert choose(SPEC._replace(has_lengths=True))[0] == "native"  # as good as the fastest
    # the fastest that can: torch was not measured at one step of float64, so the order decides
    assert choose(SPEC._replace(dtype=torch.float64, steps=1))[0] == "torch"


def test_what_cannot_serve_is_passed_over(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measured((False, False, 64, 32, 64, {"native": 1.0, "torch": 3.0, "reference": 2.0}))
    monkeypatch.setattr(native, "UNAVAILABLE", "the object is missing")
    assert choose(SPEC)[0] == "reference"


def test_the_committed_table_is_whole() -> None:
    table = dispatch.table("cpu", "float32")
    assert {p.hidden for p in table} >= {16, 64, 128, 256, 512, 1024}
    assert {p[:2] for p in table} == {(t, r) for t in (False, True) for r in (False, True)}
    assert all({"native", "torch"} <= set(row) and min(row.values()) > 0 for row in table.values())


def test_auto_takes_the_first_that_can_where_nothing_was_measured(
    measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured()
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
    with pytest.raises(ValueError, match="the backends are auto, reference, torch, native, triton, cudnn"):
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

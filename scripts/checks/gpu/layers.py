"""Microseconds a step of nn.GRU, nn.LSTM and our backends, in turns, by a clock that is read when the device is done.

First five shapes that span what is trained, in every precision, whole and ragged, forward alone and with backward, and
one in bfloat16 whose weights do not fit on the chip (those of 1024 units in float32 do not either); then nn.LSTM in
float16 beside all; then a grid for the table that `auto` reads, as far as the time goes. Kernels that are
compiled when they are first called are compiled before, in many processes at once: a case that a kernel fails on is
told and left out, and one that has not come back by then, which may hang, is measured last.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, product
from operator import itemgetter
from statistics import geometric_mean
from typing import NamedTuple

from scripts.bench.gru_cases import Case, Shape, burst, call_of, contenders, measure, records
from scripts.checks.gpu.setup import Row, Setup, dtype_of, in_a_line, said, set_tf32

FIVE = ((512, 16, 128), (512, 64, 256), (256, 64, 512), (128, 64, 1024), (1024, 8, 768))
"""T, B, H; D is H."""
LARGE = (64, 64, 2048)
"""The same, of a layer for which `auto` reads no table: our kernels take one launch a step."""
COMPILED = ("triton",)
"""Backends whose kernels are compiled at the first call."""
COMPILE_SECONDS = 40.0
SHAPE, TOO_LARGE = "shape", "too large"
Job = tuple[str, str, Case]
"""A backend, a precision and a case."""


class Timed(NamedTuple):
    """A case, its precision, who is measured and how long: rounds, and seconds of a turn."""

    precision: str
    case: Case
    names: tuple[str, ...]
    pace: tuple[int, float]


def layers(at: Setup) -> Iterator[Row]:
    """A contender a row."""
    began = time.monotonic()
    wanted = plan(at)
    whole = [t for t in wanted if not t.case.captured]
    jobs = [(name, t.precision, t.case) for t in whole for name in t.names if name in COMPILED]
    failures, late = compile_all(jobs, os.cpu_count() or 1, COMPILE_SECONDS) if jobs else ({}, set())
    for (name, precision, case), why in failures.items():
        yield {"backend": name, **about(precision, case), "failed": why, "ok": False}
    wanted.sort(key=lambda t: any((name, t.precision, t.case) in late for name in t.names))
    for number, (precision, case, names, pace) in enumerate(wanted):
        if time.monotonic() - began > at.seconds:
            yield {"backend": "none", "left out": len(wanted) - number, "ok": None}
            return
        set_tf32(precision == "tf32")
        able = [name for name in names if (name, precision, case) not in failures]
        try:
            for row in records(case, measure(case, able, *pace)):
                yield {**row, "precision": precision, "ok": None}
        except Exception as error:
            yield {"backend": ", ".join(able), **about(precision, case), "failed": said(error), "ok": False}


def about(precision: str, case: Case) -> Row:
    """A case in a few words."""
    s = case.shape
    mode = "training" if case.training else "inference"
    return {
        "T": s.steps,
        "B": s.batch,
        "H": s.hidden,
        "precision": precision,
        "mode": mode,
        "ragged": case.ragged,
    }


def plan(at: Setup) -> list[Timed]:
    """What is measured, the most important first."""
    ours = [name for name in contenders(at.device) if name not in ("nn.GRU", "torch", "reference")]
    every = ("nn.GRU", *ours)
    both = (True, False)
    precisions = ("bfloat16", "float32") if at.device == "cpu" else ("bfloat16", "tf32", "float32")
    five, large, grid_steps = (((8, 2, 16), (6, 3, 24)), (3, 2, 40), 4) if at.quick else (FIVE, LARGE, 128)
    pace, fast = ((2, 0.004), (2, 0.002)) if at.quick else ((5, 0.02), (3, 0.01))

    def case(
        name: str, size: tuple[int, int, int], precision: str, training: bool, ragged: bool = False
    ) -> Case:
        shape = Shape(name, size[0], size[1], size[2], size[2])
        return Case(shape, training, ragged, device=at.device, dtype=dtype_of(precision))

    found = [
        Timed(precision, case(SHAPE, size, precision, training, ragged), every, pace)
        for ragged, precision, training, size in product((False, True), precisions, both, five)
    ]
    found += [
        Timed("bfloat16", case(TOO_LARGE, large, "bfloat16", training, ragged), every, pace)
        for ragged, training in product((False, True), both)
    ]
    if at.device == "cuda":
        whole = [t for t in found if not t.case.ragged and t.precision == "bfloat16"]
        found += [t._replace(case=replace(t.case, captured=True), names=("nn.GRU", "triton")) for t in whole]
    slow = ("nn.GRU", "torch")  # beside what plain operations of the library reach
    found += [Timed("bfloat16", case("torch", size, "bfloat16", True), slow, (3, 0.01)) for size in five]
    lstm = (4, 2, 8) if at.quick else (1024, 16, 768)
    half = ("nn.LSTM", *every)
    found += [Timed("float16", case("lstm", lstm, "float16", training), half, pace) for training in both]
    hidden, batches = ((16,), (2,)) if at.quick else ((128, 256, 512, 1024, 64, 768), (16, 64))
    found += [
        Timed(precision, case("grid", (grid_steps, batch, h), precision, training, ragged), every, fast)
        for training, ragged, h, batch, precision in product(both, (False, True), hidden, batches, precisions)
        if precision != "tf32"  # the table goes by dtype
    ]
    steps = [(1, batch, h) for h, batch in product(hidden[:4:3], (1, 64))]
    found += [
        Timed(p, case("grid", size, p, False), every, fast) for p in ("bfloat16", "float32") for size in steps
    ]
    return found


def compile_all(jobs: list[Job], processes: int, seconds: float) -> tuple[dict[Job, str], set[Job]]:
    """Call each once, in several processes, the first ones first; why those failed that did, and those that have not
    come back after `seconds`: not begun, not done, or hanging.
    """
    failures, late, end = {}, set(jobs), time.monotonic() + seconds
    with multiprocessing.get_context("spawn").Pool(min(processes, len(late))) as pool:
        results = pool.imap_unordered(_call_once, jobs)
        try:
            while True:
                job, why = results.next(max(end - time.monotonic(), 0.01))
                late.discard(job)
                if why:
                    failures[job] = why
        except (StopIteration, multiprocessing.TimeoutError):
            pool.terminate()
    return failures, late


def _call_once(job: Job) -> tuple[Job, str]:
    name, precision, case = job
    set_tf32(precision == "tf32")
    try:
        if (call := call_of(name, case)) is not None:
            burst(call, 1, case.device)
    except Exception as error:
        return job, in_a_line(error)
    return job, ""


def layers_table(rows: list[Row]) -> list[Row]:
    """How many times as fast as nn.GRU each backend is on the shapes, and the geometric means of that."""
    lines = []
    key = itemgetter("precision", "ragged", "captured", "mode", "backend")
    mine = [row for row in rows if row.get("shape") == SHAPE and row["backend"] != "nn.GRU"]
    sizes = dict.fromkeys((row["T"], row["B"], row["H"]) for row in mine)
    for (precision, ragged, captured, mode, backend), group in groupby(sorted(mine, key=key), key):
        found = {(row["T"], row["B"], row["H"]): row["ratio"] for row in group}
        line: Row = {"precision": precision, "lengths": "ragged" if ragged else "whole", "mode": mode}
        line["mode"] += ", captured" if captured else ""
        line |= {"backend": backend} | {",".join(map(str, size)): found.get(size) for size in sizes}
        lines.append(line | {"mean": round(geometric_mean(found.values()), 2), "of": len(found)})
    return lines


def points(rows: list[Row]) -> dict[str, list[tuple[Row, dict[str, float]]]]:
    """What the table of `auto` is written from (see `scripts.bench.gru.blocks`), by dtype: each case with the
    microseconds of a call of everyone who was measured on it.
    """
    key = itemgetter("mode", "ragged", "H", "B", "T")
    found: dict[str, list[tuple[Row, dict[str, float]]]] = {}
    measured = [row for row in rows if "microseconds" in row and row["precision"] == row["dtype"]]
    measured = [row for row in measured if not row["captured"] and row["shape"] != TOO_LARGE]
    for dtype, of_dtype in groupby(sorted(measured, key=itemgetter("dtype")), itemgetter("dtype")):
        for (mode, ragged, hidden, batch, steps), group in groupby(sorted(of_dtype, key=key), key):
            place = {
                "training": mode == "training",
                "ragged": ragged,
                "hidden": hidden,
                "batch": batch,
                "steps": steps,
            }
            times = {row["backend"]: row["microseconds"] for row in group if row["backend"] != "nn.LSTM"}
            found.setdefault(dtype, []).append((place, times))
    return found

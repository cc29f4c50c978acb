"""Loading and choosing the kernel; several threads; fork."""

import multiprocessing
import os
import subprocess
import sys
import threading

import pytest
import torch

from gatelab.core.backends.native import NativeError, kernel, layer, load, run
from gatelab.core.backends.native.kernel import VARIABLE


def problem(hidden=64):
    torch.manual_seed(0)
    tensors = [torch.randn(20, 16, 32), torch.zeros(16, hidden)]
    return [*tensors, torch.randn(3 * hidden, 32), torch.randn(3 * hidden, hidden) / 8, None, None]


def test_the_best_kernel_of_the_processor_is_chosen(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    load.cache_clear()
    assert load().isa == load("portable").processor


def test_the_variable_names_the_kernel(monkeypatch):
    load.cache_clear()
    monkeypatch.setenv(VARIABLE, "portable")
    assert load().isa == "portable"
    load.cache_clear()
    monkeypatch.setenv(VARIABLE, "sse9")
    with pytest.raises(NativeError, match=r"sse9.*may be portable, avx2, avx512"):
        load()
    load.cache_clear()


def test_a_missing_kernel_says_how_to_build_it(monkeypatch):
    monkeypatch.setattr(kernel, "object_name", lambda isa: f"nowhere_{isa}.so")
    load.cache_clear()
    assert "gatelab.core.backends.native.compile" in (kernel.unavailable() or "")
    load.cache_clear()


def test_a_kernel_of_older_source_is_refused(monkeypatch):
    """What a run records of it are the files of the source."""
    monkeypatch.setattr(kernel, "source_digest", lambda: "that of an edited file")
    load.cache_clear()
    with pytest.raises(NativeError, match=r"built from other source.*native\.compile"):
        load()
    monkeypatch.undo()
    load.cache_clear()
    load()


@pytest.mark.ci
def test_there_is_one_openmp_library():
    code = (
        "from gatelab.core.backends.native import load; load();"
        "import re; maps = open('/proc/self/maps').read();"
        "print(*sorted(set(re.findall(r'\\S*lib[gi]?omp\\S*', maps))))"
    )
    if not os.path.exists("/proc/self/maps"):
        pytest.skip("no /proc on this system")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 1, done.stdout


@pytest.mark.parametrize("split", [1, 10**9])
def test_several_python_threads_give_the_same_bits(split, monkeypatch):
    monkeypatch.setattr(layer, "ALONE", 0)
    monkeypatch.setattr(layer, "SPLIT_STEP", 0)
    monkeypatch.setattr(layer, "SPLIT_WEIGHTS", split)
    tensors = problem()
    expected, _ = run(*tensors, reset_after=True)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(5):
            leaves = [None if t is None else t.clone().requires_grad_() for t in tensors]
            y, _ = run(*leaves, reset_after=True)
            y.sum().backward()
            if not torch.equal(y, expected):
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
        assert not worker.is_alive()
    assert wrong == []


def _in_child(queue) -> None:
    queue.put((kernel.most_threads(), float(run(*problem(), reset_after=True)[0].double().sum())))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_computes_on_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    expected = float(run(*problem(), reset_after=True)[0].double().sum())  # the pool exists now
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    child.join(timeout=60)
    torch.set_num_threads(before)
    hangs = child.is_alive()
    if hangs:
        child.kill()
    assert not hangs
    assert queue.get() == (1, expected)

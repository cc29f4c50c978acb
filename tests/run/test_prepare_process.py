"""What a run sets for its whole process."""

import pytest
import torch

from gatelab.run.build import prepare_process


def test_a_deterministic_run_does_not_write_over_every_new_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    prepare_process({"threads": None, "flush_denormal": False})
    assert not torch.utils.deterministic.fill_uninitialized_memory


def test_float32_is_float32_on_a_gpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    prepare_process({"threads": None, "flush_denormal": False})
    assert torch.backends.cudnn.allow_tf32 is False

"""What a run sets for its whole process."""

import pytest
import torch

from gatelab.run.build import prepare_process


def test_a_deterministic_run_does_not_write_over_every_new_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    prepare_process({"threads": None, "flush_denormal": False})
    assert not torch.utils.deterministic.fill_uninitialized_memory

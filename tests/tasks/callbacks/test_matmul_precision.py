"""Products in a lower precision while a run trains, and only then."""

import pytest
import pytorch_lightning as pl
import torch

from gatelab.run.build import build_callbacks
from gatelab.tasks.callbacks import MatmulPrecision


class _Look(pl.Callback):
    """Note the precision in every kind of step, and fail at one if asked to."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.seen: dict[str, set[str]] = {"train": set(), "backward": set(), "valid": set()}
        self.tf32: dict[str, set[bool]] = {"train": set(), "valid": set()}
        self.fail_at = fail_at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen["train"].add(torch.get_float32_matmul_precision())
        self.tf32["train"].add(torch.backends.cudnn.allow_tf32)
        if batch_idx == self.fail_at:
            raise RuntimeError("asked for")

    def on_after_backward(self, trainer, pl_module):
        self.seen["backward"].add(torch.get_float32_matmul_precision())

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.seen["valid"].add(torch.get_float32_matmul_precision())
        self.tf32["valid"].add(torch.backends.cudnn.allow_tf32)


def test_training_steps_alone_are_in_the_lower_precision(make_trainer, make_task, text_data, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # as a run sets it
    look, data = _Look(), text_data()
    make_trainer(callbacks=[MatmulPrecision("medium"), look], max_epochs=2).fit(
        make_task(data), datamodule=data
    )
    assert look.seen == {"train": {"medium"}, "backward": {"medium"}, "valid": {"highest"}}
    assert look.tf32 == {"train": {True}, "valid": {False}}
    assert torch.backends.cudnn.allow_tf32 is False
    assert torch.get_float32_matmul_precision() == "highest"


def test_an_error_leaves_the_process_as_it_was(make_trainer, make_task, text_data):
    look, data = _Look(fail_at=2), text_data()
    with pytest.raises(RuntimeError, match="asked for"):
        make_trainer(callbacks=[MatmulPrecision("high"), look]).fit(make_task(data), datamodule=data)
    assert look.seen["train"] == {"high"}
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_highest_precision_is_that_without_the_key():
    for precision in (None, "highest"):
        assert not build_callbacks({"callbacks": {}, "matmul_precision": precision})
    (found,) = build_callbacks({"callbacks": {}, "matmul_precision": "medium"})
    assert isinstance(found, MatmulPrecision)

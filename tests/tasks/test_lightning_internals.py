"""The private names of Lightning in `lightning_internals.py` exist, take what we give and mean what we say."""

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from pytorch_lightning.trainer.connectors.logger_connector.logger_connector import _LoggerConnector
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector

from gatelab.tasks import lightning_internals as internals

SOURCE = Path(internals.__file__).resolve().parents[1]
CALLED = [
    (_TrainingEpochLoop._should_accumulate, ["self"]),
    (_TrainingEpochLoop._num_ready_batches_reached, ["self"]),
    (_TrainingEpochLoop._should_check_val_fx, ["self", "data_fetcher"]),
    (_LoggerConnector.on_epoch_end, ["self"]),
    (_LoggerConnector.update_train_step_metrics, ["self"]),
    (_LoggerConnector.update_train_epoch_metrics, ["self"]),
    (_SignalConnector.register_signal_handlers, ["self"]),
    (_SubprocessScriptLauncher._call_children_scripts, ["self"]),
]


@pytest.mark.parametrize(("method", "parameters"), CALLED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_private_method_takes_what_we_give(method: Any, parameters: list[str]) -> None:
    assert list(inspect.signature(method).parameters) == parameters


class Watch(pl.Callback):
    """Notes at every batch what the functions say."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, bool, bool, bool]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.seen.append(
            (
                internals.current_step(trainer),
                trainer.global_step,
                internals.between_micro_batches(trainer),
                internals.validation_follows(trainer),
                internals.epoch_ends(trainer),
            )
        )


def test_the_functions_say_where_a_run_stands(text_data: Any, make_task: Any, make_trainer: Any) -> None:
    data, watch = text_data(window=128), Watch()  # 4 batches an epoch
    assert len(data.train_dataloader()) == 4
    task = make_task(data, schedule=None)
    assert internals.attached_trainer(task) is None
    trainer = make_trainer(callbacks=[watch], max_epochs=2, accumulate_grad_batches=2)
    trainer.fit(task, datamodule=data)
    assert internals.attached_trainer(task) is trainer
    assert watch.seen == [
        (1, 0, True, False, False),
        (1, 1, False, False, False),
        (2, 1, True, False, False),
        (2, 2, False, True, True),
        (3, 2, True, False, False),
        (3, 3, False, False, False),
        (4, 3, True, False, False),
        (4, 4, False, True, True),
    ]


def test_no_other_file_uses_a_private_name_of_a_trainer_or_a_loop() -> None:
    """By name: what follows `trainer`, `loop`, `connector` or `launcher` and begins with an underscore."""
    used = []
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and node.attr.startswith("_")
                and not node.attr.startswith("__")
            ):
                owner = ast.unparse(node.value).rsplit(".")[-1]
                if owner in (
                    "trainer",
                    "fit_loop",
                    "epoch_loop",
                    "loop",
                    "connector",
                    "launcher",
                    "strategy",
                ) or node.attr in ("_trainer", "_logger_connector", "_signal_connector"):
                    used.append(f"{file.name}: {ast.unparse(node)}")
    assert used
    assert {entry.partition(":")[0] for entry in used} == {"lightning_internals.py"}

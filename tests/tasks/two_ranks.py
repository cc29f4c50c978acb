"""What one of two gloo processes runs for `test_two_ranks.py`: evaluate, train, be killed and go on; report as JSON.

Usage: python -m tests.tasks.two_ranks FOLDER KIND, with LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT
set. Not a test itself.
"""

import functools
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from gatelab.core import GRU, Forecaster, LanguageModel, SequenceClassifier, Translator
from gatelab.data import LabelledTableDataModule, PairsDataModule, SeriesDataModule, TextDataModule
from gatelab.tasks import (
    AtomicCheckpointIO,
    Checkpoints,
    ClassificationTask,
    ForecastTask,
    GateStatistics,
    LanguageModelTask,
    NonFiniteGuard,
    TranslationTask,
    load_checkpoint,
)
from gatelab.tasks.callbacks import ExponentialAveraging
from gatelab.tasks.optimizers import sgd

from .kill_tools import KillAfter, Killed

KINDS: dict[str, tuple[Any, Any]] = {
    "text": (LanguageModel, LanguageModelTask),
    "labels": (SequenceClassifier, ClassificationTask),
    "pairs": (Translator, TranslationTask),
    "series": (Forecaster, ForecastTask),
}
REGULARIZED = {
    "locked_dropout": True,
    "embedding_dropout": 0.1,
    "weight_drop": 0.3,
    "embedding_size": 8,
    "last_as_embedding": True,
}


def make_data(kind: str, folder: Path, random_window: bool = False) -> Any:
    """Return the DataModule: the text in `folder` as streams, labelled lines or pairs, or the embedded series."""
    data: Any
    if kind == "pairs":
        named = {side: str(folder / f"{side}.txt") for side in ("source", "target")}
        data = PairsDataModule(
            corpus="pairs", level="char", batch_tokens=120, eval_batch_size=16, seed=5, **named
        )
    elif kind == "text":
        data = TextDataModule(
            corpus="text",
            level="char",
            path=str(folder / "corpus.txt"),
            batch_size=10,
            window=32,
            eval_batch_size=4,
            burn_in=100,
            random_window=random_window,
        )
    elif kind == "labels":
        data = LabelledTableDataModule(str(folder / "labels.csv"), "label", "text", batch_size=10, seed=5)
    else:
        data = SeriesDataModule(lookback=8, horizon=4, batch_size=500, eval_batch_size=128, seed=5)
    data.prepare_data()
    data.setup()
    return data


def make_task(kind: str, data: Any, **net_options: Any) -> Any:
    """Return the task with initial weights from seed 0."""
    torch.manual_seed(0)
    core = functools.partial(GRU, hidden_size=12)
    model, task = KINDS[kind]
    net = task.build_net(functools.partial(model, **net_options), core, data.spec)
    # plain gradient descent: a rounding error in a gradient stays one (Adam divides small gradients by themselves)
    return task(net, spec=data.spec, optimizer=functools.partial(sgd, lr=0.1))


def make_trainer(devices: int, folder: Path, *callbacks: Any) -> pl.Trainer:
    """Return a quiet Trainer for one process or two."""
    return pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=2,
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(c, Checkpoints) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=4,
        default_root_dir=folder,
        plugins=[AtomicCheckpointIO()],
    )


def measure(kind: str, folder: Path, devices: int) -> dict[str, Any]:
    """Return the metrics of the initial weights, and those and the training loss after two epochs."""
    task = make_task(kind, make_data(kind, folder))
    make_trainer(devices, folder).test(task, datamodule=make_data(kind, folder), verbose=False)
    trainer = make_trainer(devices, folder, NonFiniteGuard())
    trainer.fit(task, datamodule=make_data(kind, folder))
    return {**task.results, "loss": float(trainer.callback_metrics["train/loss"])}


def weights(
    kind: str, folder: Path, name: str, kill_after: int | None = None, resume: bool = False
) -> list[float]:
    """Train with all that is random, saving after each step; return the weights at the end, or [] if killed.

    They are this process' own, and the averaged ones that were saved.
    """
    saver = Checkpoints(str(folder / name), every_n_steps=1)
    killer = [] if kill_after is None else [KillAfter(kill_after)]
    watch = [GateStatistics(every_n_steps=4)] if resume else []  # looking changes nothing
    text = kind == "text"
    trainer = make_trainer(2, folder, saver, ExponentialAveraging(0.9), *killer, *watch)
    data = make_data(kind, folder, random_window=text)
    task = make_task(kind, data, dropout=0.5, **(REGULARIZED if text else {}))
    try:
        trainer.fit(task, datamodule=data, ckpt_path=str(folder / name / "last.ckpt") if resume else None)
    except Killed:
        return []
    saved = load_checkpoint(folder / name / "last.ckpt")["state_dict"]
    return [float(x) for p in (*task.parameters(), *saved.values()) for x in p.detach().flatten()]


def main(folder: Path, kind: str) -> None:
    """Run everything and write `rank<N>.json`."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    report: dict[str, Any] = measure(kind, folder, 2)
    report["whole"] = weights(kind, folder, "whole")
    weights(kind, folder, "killed", kill_after=7)
    report["resumed"] = weights(kind, folder, "killed", resume=True)
    rank = torch.distributed.get_rank()
    (folder / f"rank{rank}.json").write_text(json.dumps(report))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

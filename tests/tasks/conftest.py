"""Small tasks, data and trainers for the tests of this ring: seconds on one core, no network."""

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from gatelab.core import GRU, Forecaster, LanguageModel
from gatelab.data import SeriesDataModule, TextDataModule
from gatelab.tasks import AtomicCheckpointIO, Checkpoints, ForecastTask, LanguageModelTask
from gatelab.tasks.optimizers import adam
from gatelab.tasks.schedules import cosine


@pytest.fixture(autouse=True)
def _quiet_lightning() -> Any:
    """Lightning's advice on loaders and devices is not what these tests are about."""
    with warnings.catch_warnings():
        for message in (".*does not have many workers", ".*smaller than the logging interval", ".*LeafSpec"):
            warnings.filterwarnings("ignore", message=message)
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """Networks this small gain nothing from a second thread, and lose much where other tests run beside them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 6,000 characters from a Markov chain, so that there is something to learn."""
    generator = np.random.default_rng(7)
    letters, text, now = "abcdefgh \n", [], 0
    for _ in range(6000):
        now = (now * 3 + int(generator.integers(0, 4))) % len(letters)
        text.append(letters[now])
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text("".join(text))
    return path


@pytest.fixture
def text_data(text_file: Path) -> Callable[..., TextDataModule]:
    """Make a DataModule over the small text: 15 windows of 32 steps and 10 streams an epoch."""

    def make(**options: Any) -> TextDataModule:
        sizes = {"batch_size": 10, "window": 32, "eval_batch_size": 4, "burn_in": 100}
        named = {"corpus": "text", "level": "char", "path": str(text_file)}
        arguments: dict[str, Any] = {**named, **sizes, **options}
        data = TextDataModule(**arguments)
        data.prepare_data()
        data.setup()
        return data

    return make


@pytest.fixture
def series_data() -> Callable[..., SeriesDataModule]:
    """Make a DataModule over the embedded series: 12 batches of 500 windows an epoch."""

    def make(**options: Any) -> SeriesDataModule:
        defaults: dict[str, Any] = {"lookback": 8, "horizon": 4, "batch_size": 500, "seed": 5}
        data = SeriesDataModule(**{**defaults, **options})
        data.prepare_data()
        data.setup()
        return data

    return make


@pytest.fixture
def make_task() -> Callable[..., Any]:
    """Make the task that fits a DataModule, with initial weights from seed 0."""

    def make(
        data: Any, dropout: float = 0.3, lr: float = 0.01, net: dict[str, Any] | None = None, **options: Any
    ) -> Any:
        torch.manual_seed(0)
        core = functools.partial(GRU, hidden_size=12, num_layers=2, dropout=dropout)
        text = isinstance(data, TextDataModule)
        model: Any = LanguageModel if text else Forecaster
        kind: Any = LanguageModelTask if text else ForecastTask
        return kind(
            kind.build_net(functools.partial(model, dropout=dropout, **(net or {})), core, data.spec),
            **{
                "spec": data.spec,
                "optimizer": functools.partial(adam, lr=lr),
                "schedule": functools.partial(cosine, warmup=2, floor=0.1),
                "seed": 3,
                **options,
            },
        )

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., pl.Trainer]:
    """Make a Trainer that says nothing and writes below the test's folder only."""

    def make(**options: Any) -> pl.Trainer:
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 2,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
            "gradient_clip_val": 1.0,
            "log_every_n_steps": 4,
            "default_root_dir": tmp_path,
            "plugins": [AtomicCheckpointIO()],
        }
        merged = {**defaults, **options}
        if any(isinstance(c, Checkpoints) for c in merged.get("callbacks", [])):
            merged.pop("enable_checkpointing")
        return pl.Trainer(**merged)

    return make

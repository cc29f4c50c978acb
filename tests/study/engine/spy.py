"""Callbacks for the tests: every rank writes down the hyperparameters that it trains with, or a seed fails."""

import json
import os
import time
from pathlib import Path

import pytorch_lightning as pl


class Spy(pl.Callback):
    """Write `rank<N>.json` to the run directory; the rank of SPY_FAILS_ON fails instead."""

    def on_train_start(self, trainer, pl_module):
        seen = {
            "hparams": dict(pl_module.hparams)["config"],
            "lr": trainer.optimizers[0].param_groups[0]["initial_lr"],
            "world": trainer.world_size,
        }
        if os.environ.get("SPY_FAILS_ON") == str(trainer.global_rank):
            raise ValueError("as requested")
        Path(trainer.default_root_dir, f"rank{trainer.global_rank}.json").write_text(json.dumps(seen))


class FailsOnSeed(pl.Callback):
    """Let the run of one seed fail, once another run has begun."""

    def __init__(self, seed):
        self.seed = seed

    def on_train_start(self, trainer, pl_module):
        folder, end = Path(trainer.default_root_dir), time.monotonic() + 60
        if not folder.name.endswith(f"s{self.seed}"):
            return
        while len(list(folder.parent.glob("*/run.json"))) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        raise ValueError("as requested")

"""A callback for the tests: every rank writes down the hyperparameters that it trains with."""

import json
import os
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

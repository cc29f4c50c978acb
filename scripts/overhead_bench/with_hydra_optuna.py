"""hydra-optuna-sweeper with Hydra's joblib launcher: `-m` of an ordinary Hydra application, two jobs at a time."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from work import read_plan, train, write_values


@dataclass
class Conf:
    plan: str
    folder: str
    rate: float = 0.0


ConfigStore.instance().store(name="bench", node=Conf)


@hydra.main(version_base="1.3", config_path=None, config_name="bench")
def job(conf: Conf) -> float:
    config, _ = read_plan(conf.plan)
    value = train(config, conf.rate, conf.folder)
    Path(conf.folder, f"{conf.rate:g}.json").write_text(json.dumps(value))
    return value


def main(plan: str, folder: str) -> None:
    _, rates = read_plan(plan)
    sys.argv[1:] = [
        "-m",
        "hydra/sweeper=optuna",
        "hydra/sweeper/sampler=grid",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "hydra.sweeper.n_jobs=2",
        f"hydra.sweeper.n_trials={len(rates)}",
        f"hydra.sweep.dir={folder}/multirun",
        f"plan={plan}",
        f"folder={folder}",
        f"rate={','.join(map(str, rates))}",
    ]
    job()
    write_values(folder, [json.loads(Path(folder, f"{rate:g}.json").read_text()) for rate in rates])


if __name__ == "__main__":
    main(*sys.argv[1:])

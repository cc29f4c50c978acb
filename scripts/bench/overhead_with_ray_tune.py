"""Ray Tune on this machine: an actor for each trial, two at a time, Ray's own processes started for it."""

from __future__ import annotations

import sys
from pathlib import Path

import ray
from ray import tune

from scripts.bench.overhead_work import read_plan, train, write_values


def main(plan: str, folder: str) -> None:
    config, rates = read_plan(plan)
    here = str(Path(__file__).parent)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": here, "OMP_NUM_THREADS": "1"}},
    )

    def trainable(chosen: dict[str, float]) -> None:
        tune.report({"value": train(config, chosen["rate"], folder)})

    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"rate": tune.grid_search(rates)},
        tune_config=tune.TuneConfig(max_concurrent_trials=2, metric="value", mode="min"),
        run_config=tune.RunConfig(storage_path=f"{folder}/ray", verbose=0),
    )
    found = {result.metrics["config"]["rate"]: result.metrics["value"] for result in tuner.fit()}
    write_values(folder, [found[rate] for rate in rates])
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Optuna in one process, two threads, nothing isolated: the least that a sweep can cost."""

from __future__ import annotations

import sys

import optuna

from scripts.bench.overhead_work import read_plan, train, write_values


def main(plan: str, folder: str) -> None:
    config, rates = read_plan(plan)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.GridSampler({"rate": rates}))

    def objective(trial: optuna.Trial) -> float:
        return train(config, trial.suggest_categorical("rate", rates), folder)

    study.optimize(objective, n_trials=len(rates), n_jobs=2)
    found = {trial.params["rate"]: trial.value for trial in study.trials}
    write_values(folder, [found[rate] for rate in rates])


if __name__ == "__main__":
    main(*sys.argv[1:])

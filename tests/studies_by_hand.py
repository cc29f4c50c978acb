"""Studies made by hand: a study.json, an Optuna journal, and the runs' result.json. Nothing is trained."""

import datetime
import json
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from gatelab.run import CONF_DIR
from gatelab.study.spec import copy_sources, sources_of

STATES = {
    "done": TrialState.COMPLETE,
    "running": TrialState.RUNNING,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "waiting": TrialState.WAITING,
}
LOSS = ("val/loss:minimize",)
BEGIN = datetime.datetime(2026, 1, 1, 12, 0, 0)


def choice(key, *values, group=False):
    """A space entry as study.json has it."""
    entry = {"key": key, "kind": "choice", "choices": list(values), "low": None, "high": None, "log": False}
    return {**entry, "step": None, "group": group, "prefix": ""}


def interval(key, low, high, log=False):
    kind = "int" if isinstance(low, int) and isinstance(high, int) else "float"
    return {**choice(key), "kind": kind, "low": low, "high": high, "log": log}


def distribution(entry):
    if entry["kind"] == "choice":
        return CategoricalDistribution(entry["choices"])
    kind = IntDistribution if entry["kind"] == "int" else FloatDistribution
    return kind(entry["low"], entry["high"], log=entry["log"])


class Maker:
    """Makes studies below `<root>/studies/` and their runs below `<root>/runs/`."""

    def __init__(self, root):
        self.root = Path(root)

    def __call__(
        self,
        name,
        space,
        trials,
        *,
        objectives=("val/loss:minimize",),
        overrides=(),
        config_dirs=(),
        **settings,
    ):
        """Write the study; return its folder.

        Each trial is a dict: `params`, and as wanted `state`, `values` (of the runs), `objectives` (the trial's
        values; default: the mean of `values`), `seconds`, `parameters`, `hidden`, `error`, `attempts`, `owner`,
        `reported` (list of values), `start` and `length` (seconds after BEGIN), `baselines`.
        """
        folder = self.root / "studies" / name
        folder.mkdir(parents=True)
        asked = [dict(zip(("metric", "direction"), o.rsplit(":", 1), strict=True)) for o in objectives]
        settings = {"name": name, "workers": 1, "slots": 1, "seeds": [], "folds": None, **settings}
        record = {"format": 1, "name": name, "created": "2026-01-01T12:00:00+00:00", "settings": settings}
        record |= {"command": f"gatelab sweep study={name}", "overrides": list(overrides), "space": space}
        record |= {"objectives": asked, "templates": {}, "versions": {"gatelab": "0.1.0", "torch": "2.13.0"}}
        (folder / "study.json").write_text(json.dumps(record))
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "journal.log")))
        if config_dirs:
            copy_sources(sources_of(config_dirs), folder / "conf")
        else:
            (folder / "conf").mkdir()
            (folder / "conf" / "0").symlink_to(CONF_DIR)
        study = optuna.create_study(
            study_name=name, storage=storage, directions=[o["direction"] for o in asked]
        )
        for number, trial in enumerate(trials):
            study.add_trial(self._trial(name, number, trial, space, settings, asked))
        return folder

    def grid(self, name):
        """A finished study: 2 models x 3 hidden sizes x 3 seeds. The GRU of 128 is best, that of 64 is hardly worse."""
        means = {("gru", 32): 1.6, ("gru", 64): 1.42, ("gru", 128): 1.4}
        means |= {("rnn", 32): 2.0, ("rnn", 64): 1.8, ("rnn", 128): 1.7}
        noise = {128: (0.01, -0.01, 0.0), 64: (-0.02, 0.03, -0.01), 32: (0.0, 0.01, -0.01)}
        trials = [
            {
                "params": {"model": model, "model.hidden_size": size},
                "values": [mean + e for e in noise[size]],
                "seconds": size / 4,
                "parameters": 3 * size * size,
                "start": index * 10,
                "length": 10,
                "baselines": {"unigram": 3.0, "bigram": 1.9},
            }
            for index, ((model, size), mean) in enumerate(means.items())
        ]
        space = [choice("model", "gru", "rnn", group=True), choice("model.hidden_size", 32, 64, 128)]
        return self(name, space, trials, seeds=[0, 1, 2])

    def _trial(self, name, number, trial, space, settings, objectives):
        state = trial.get("state", "done")
        values = trial.get("values", [])
        runs = [self._run(name, number, i, trial, settings, objectives) for i in range(len(values))]
        mine = {entry["key"]: distribution(entry) for entry in space if entry["key"] in trial["params"]}
        attrs = {"runs": runs, "values": values}
        attrs |= {
            k: trial[k]
            for k in ("seconds", "parameters", "hidden", "error", "attempts", "owner")
            if k in trial
        }
        start = BEGIN + datetime.timedelta(seconds=trial.get("start", 0.0))
        end = start + datetime.timedelta(seconds=trial.get("length", trial.get("seconds", 1.0)))
        done = trial.get("objectives") or ([sum(values) / len(values)] if values else None)
        waiting = state == "waiting"
        return optuna.trial.FrozenTrial(
            number=-1,
            trial_id=-1,
            state=STATES[state],
            value=None,
            values=done if state == "done" else None,
            params={} if waiting else trial["params"],
            distributions={} if waiting else mine,
            user_attrs=attrs,
            system_attrs={"fixed_params": trial["params"]} if waiting else {},
            intermediate_values=dict(enumerate(trial.get("reported", []), 1)),
            datetime_start=None if waiting else start,
            datetime_complete=end if state in ("done", "pruned", "failed") else None,
        )

    def _run(self, name, number, index, trial, settings, objectives):
        seeds = settings["seeds"] or [0]
        folds = settings["folds"] or 1
        directory = f"runs/{name}/{number:04d}{index % folds:04d}-s{seeds[index // folds]}"
        path = self.root / directory
        path.mkdir(parents=True)
        metric = objectives[0]["metric"].removeprefix("val/")
        baselines = {key: {metric: value} for key, value in trial.get("baselines", {}).items()}
        valid = {"metrics": {metric: trial["values"][index]}, "baselines": baselines}
        result = {"outcome": "done", "monitor": objectives[0]["metric"], "splits": {"valid": valid}}
        result |= {
            "parameters": trial.get("parameters"),
            "seconds": {"fit": trial.get("seconds", 1.0) / len(trial["values"])},
        }
        (path / "result.json").write_text(json.dumps(result))
        return directory

"""Run directories made by hand: run.json, result.json, metrics.csv. Nothing is trained."""

import json

import pytest


class Runs:
    """Makes run directories below `<root>/runs/`."""

    def __init__(self, root):
        self.root = root

    def __call__(self, name, hash8, seed, value=1.0, **more):
        """Write one run; `more`: `state`, `hidden`, `model`, `series`, `fold`, `error`, `curve`."""
        folder = self.root / "runs" / name / f"{hash8}-s{seed}"
        folder.mkdir(parents=True)
        model = {"_target_": f"gatelab.core.{more.get('model', 'GRU')}", "hidden_size": more.get("hidden", 8)}
        data = {
            "_target_": "gatelab.data.SeriesDataModule",
            "series": more.get("series", "etth1"),
            "seed": seed,
        }
        data |= {"horizon": 24, "batch_size": 32, "fold": more.get("fold")}
        config = {"seed": seed, "name": name, "paths": {"root": "/somewhere"}, "model": model, "data": data}
        config |= {"task": {"monitor": "val/mse", "mode": "min", "seed": seed}}
        git = {"revision": "0123456789abcdef", "diff": ""}
        attempt = {"started": "2026-01-01T12:00:00+00:00", "command": f"gatelab train seed={seed}"}
        attempt |= {"environment": {"python": "3.11.7", "versions": {"gatelab": "0.1.0"}, "git": git}}
        identity = {"name": name, "hash8": hash8, "seed": seed}
        record = {"format": 1, "identity": identity, "config": config, "attempts": [attempt]}
        (folder / "run.json").write_text(json.dumps(record))
        state = more.get("state", "done")
        if state != "unfinished":
            result = {"outcome": state, "monitor": "val/mse", "parameters": 100, "steps": 40}
            result |= {"seconds": {"fit": 2.0}, "error": more.get("error"), "best": value}
            valid = {"metrics": {"mse": value}, "baselines": {"linear": {"mse": 2.0}}}
            result["splits"] = {"valid": valid} if state == "done" else {}
            (folder / "result.json").write_text(json.dumps(result))
        lines = [
            f"{step},0,{3.0 / step},{2.0 / step if step % 2 == 0 else ''},{step}" for step in range(1, 7)
        ]
        head = "step,epoch,train/loss,val/mse,memory/cpu_peak_mib"
        (folder / "metrics.csv").write_text("\n".join([head, *lines, ""]))
        return folder


@pytest.fixture
def make_run(tmp_path):
    """`make_run(name, hash8, seed, value)`: the folder of a new run below `tmp_path`."""
    return Runs(tmp_path)

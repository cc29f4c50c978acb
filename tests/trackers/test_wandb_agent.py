"""`conf/wandb/sweep.yaml`, and runs that an agent of Weights & Biases starts: they report under the agent's ids."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml

from gatelab.cli.main import main
from gatelab.run import CONF_DIR
from gatelab.run.config import check, compose
from gatelab.run.record.directory import RunDirectory, read_metrics
from gatelab.run.record.identity import identify
from gatelab.trackers.follow import key, to_row
from scripts.checks.wandb_files import segments

from .fake_wandb import FakeWandb

SWEEP = yaml.safe_load((CONF_DIR / "wandb" / "sweep.yaml").read_text())
RUN = ["experiment=quickstart_series", "trainer.max_steps=4", "trainer.val_check_interval=2", "test=false"]
RUN += ["trainer.log_every_n_steps=1", "callbacks.progress=null", "data.lookback=24", "logger=wandb"]


def command(values, sweep=SWEEP):
    """The command line as an agent makes it from the sweep's file."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    known = create_sweep_command_args({"args": {name: {"value": v} for name, v in values.items()}})
    parts = ([*known[part[2:-1]]] if part.startswith("${") else [part] for part in sweep["command"])
    return [word for part in parts for word in part]


def test_the_sweep_file_is_one_that_wandb_takes_as_it_is():
    from wandb.apis.public.sweeps import _validate_config_and_fill_distribution

    assert _validate_config_and_fill_distribution(SWEEP) == SWEEP
    for parameter in SWEEP["parameters"].values():
        assert all(isinstance(v, int | float) for k, v in parameter.items() if k in ("min", "max"))


@pytest.mark.parametrize("which", [0, -1])
def test_every_command_of_the_sweep_file_is_a_run_whose_monitored_metric_is_the_sweep_s(which):
    ends = {n: p["values"] if "values" in p else [p["min"], p["max"]] for n, p in SWEEP["parameters"].items()}
    program, name, *overrides = command({n: values[which] for n, values in ends.items()})
    assert (program, name) == ("gatelab", "train")
    composed = compose(overrides)
    plain = check(composed)
    assert all(f"{n}={v[which]}" in overrides for n, v in ends.items())
    assert plain["task"]["monitor"] == SWEEP["metric"]["name"]
    assert {"min": "minimize", "max": "maximize"}[plain["task"]["mode"]] == SWEEP["metric"]["goal"]
    assert "gatelab.trackers.wandb_logger" in str(plain["logger"])


@pytest.fixture
def agent(monkeypatch, tmp_path):
    """Set what an agent sets for one run, as `wandb agent` of this version does."""

    def begin(run_id, sweep_id="sweepabc", **values):
        file = tmp_path / f"config-{run_id}.yaml"
        told = {"wandb_version": 1, **{name: {"value": value} for name, value in values.items()}}
        file.write_text(yaml.safe_dump(told))
        for name, value in {
            "WANDB_SWEEP_ID": sweep_id,
            "WANDB_RUN_ID": run_id,
            "WANDB_PROJECT": "theirs",
            "WANDB_ENTITY": "team",
            "WANDB_SWEEP_PARAM_PATH": str(file),
            "WANDB_DIR": str(tmp_path),
        }.items():
            monkeypatch.setenv(name, value)
        return [*RUN, f"paths.root={tmp_path}", *(f"{name}={value}" for name, value in values.items())]

    return begin


@pytest.mark.slow
def test_two_agents_with_one_configuration_each_get_all_of_the_one_run(agent, tmp_path, monkeypatch):
    assert main(["train", *agent("first001", "sweepone", **{"model.hidden_size": 8})]) == 0
    request = agent("second02", "sweeptwo", **{"model.hidden_size": 8})
    assert main(["train", *request]) == 0
    monkeypatch.delenv("WANDB_SWEEP_ID")
    assert main(["train", *request]) == 0  # without an agent it is not shown again
    (run,) = tmp_path.glob("runs/*/*-s0")
    recorded = [key(to_row(row)) for row in read_metrics(run / "metrics.csv")]
    parts = segments(run)
    assert [(part.run["run_id"], part.run["sweep_id"]) for part in parts] == [
        ("first001", "sweepone"),
        ("second02", "sweeptwo"),
    ]
    for part in parts:
        assert tuple(part.run[name] for name in ("project", "entity", "job_type")) == (
            "theirs",
            "team",
            "sweep",
        )
        assert [key(row) for row in part.rows] == recorded
        assert part.config["model.hidden_size"] == part.config["model"]["hidden_size"] == 8
        assert part.summary["val/mse"] == min(row["val/mse"] for row in part.rows if "val/mse" in row)
        assert (part.exit_code, part.summary["outcome"]) == (0, "done")


def test_an_agent_waits_for_another_that_trains_the_same_run(agent, monkeypatch):
    class ItsTurn(BaseException):
        pass

    def turn(plain):
        raise ItsTurn

    monkeypatch.setattr("gatelab.run.train.build_data", turn)
    request = agent("second02", **{"model.hidden_size": 8})
    composed = compose(request)
    run = RunDirectory(identify(composed).directory(check(composed)["paths"]["runs"]))
    held = threading.Event()

    def other():
        with run.locked():
            held.set()
            time.sleep(0.5)

    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    with pytest.raises(ItsTurn):
        main(["train", *request])
    thread.join()


def test_a_stop_is_no_failure_for_an_agent_and_resumable_for_everybody_else(agent, monkeypatch, capsys):
    monkeypatch.setattr("gatelab.run.train.train", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["train"]) == 75
    agent("first001")
    assert main(["train"]) == 0
    assert capsys.readouterr().err.count("stopped by SIGTERM; the same command continues it") == 2


@pytest.fixture
def server():
    fake = FakeWandb()
    yield fake
    fake.stop()


@pytest.mark.slow
def test_the_commands_of_wandb_make_our_sweep_and_stop_a_weak_run_in_good_order(server, tmp_path):
    tail = [word for word in RUN if "max_steps" not in word]
    tail += ["trainer.max_epochs=100000", f"paths.root={tmp_path}"]
    small = [word for word in SWEEP["command"] if not word.startswith(("experiment=", "logger="))]
    small[2:2] = tail
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**SWEEP, "command": small}))
    (tmp_path / "gatelab").write_text(f'#!/bin/sh\nexec {sys.executable} -m gatelab "$@"\n')
    (tmp_path / "gatelab").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "WANDB_BASE_URL": server.url}
    environment["WANDB_API_KEY"] = "0123456789" * 4
    wandb = [sys.executable, "-m", "wandb"]
    made = subprocess.run(
        [*wandb, "sweep", "sweep.yaml"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert "wandb agent team/gatelab/sweepabc" in made.stderr
    args = {"model.hidden_size": {"value": 8}, "optim.lr": {"value": 0.01}}
    server.commands = [{"type": "run", "run_id": "weak0001", "program": None, "args": args}]
    program = [*wandb, "agent", "--count", "1", "team/gatelab/sweepabc"]
    with (tmp_path / "agent.log").open("w") as log:
        process = subprocess.Popen(program, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and len(server.runs.get("weak0001", {}).get("history", ())) < 4:
            time.sleep(0.2)
        server.stopped.add("weak0001")  # what a sweep with early_terminate does
        server.commands.append({"type": "stop", "run_id": "weak0001"})
        assert process.wait(120) == 0
    run = server.runs["weak0001"]
    assert (run["exit_code"], run["preempting"], run["summary"]["outcome"]) == (0, False, "stopped")
    assert run["upserts"][0]["sweep"] == "sweepabc"
    (directory,) = tmp_path.glob("runs/*/*-s0")
    record = RunDirectory(directory)
    assert (record.state(), record.last.is_file()) == ("interrupted", True)
    rows = [run["history"][number] for number in sorted(run["history"])]
    sent = [key({k: v for k, v in row.items() if not k.startswith("_")}) for row in rows]
    assert sent == [key(to_row(row)) for row in read_metrics(record.metrics_file)]


@pytest.mark.slow
def test_sync_sends_a_run_under_every_id_that_agents_gave_it(parts, server, monkeypatch, capsys):
    parts.part(range(10), mode="offline", id="first001", sweep_id="sweepone", project="theirs")
    shown = parts.start(mode="offline", id="second02", sweep_id="sweeptwo", project="theirs")
    shown.conclude("done", None)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    assert main(["sync", str(parts.path)]) == 0
    recorded = [key(to_row(row)) for row in read_metrics(parts.path / "metrics.csv")]
    for run_id, sweep_id in (("first001", "sweepone"), ("second02", "sweeptwo")):
        run = server.runs[run_id]
        assert (run["upserts"][0]["sweep"], run["upserts"][0]["project"]) == (sweep_id, "theirs")
        rows = [run["history"][number] for number in sorted(run["history"])]
        assert [key({k: v for k, v in row.items() if not k.startswith("_")}) for row in rows] == recorded
    main(["sync", str(parts.path)])
    assert "nothing to send" in capsys.readouterr().out


def test_a_study_inside_an_agent_s_run_is_not_the_agent_s_run(monkeypatch):
    from gatelab.run.frozen_run import child_environment

    monkeypatch.setenv("WANDB_SWEEP_ID", "sweepabc")
    monkeypatch.setenv("WANDB_RUN_ID", "first001")
    assert not {"WANDB_SWEEP_ID", "WANDB_RUN_ID"} & set(child_environment())

"""Flags, callbacks and group values that do not work are refused before the first step, with the fix."""

import functools
import os
import shlex
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytorch_lightning as pl
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from pytorch_lightning.loggers import Logger
from torch.utils.data import DataLoader, TensorDataset

from gatelab.cli.main import main
from gatelab.run import CONF_DIR
from gatelab.run.config import GROUPS as OF_A_RUN
from gatelab.run.config import compose, problems
from gatelab.run.config.dry_build import refusal
from gatelab.run.config.explain import choices_of, quoted
from gatelab.run.config.trainer_problems import trainer_problems
from gatelab.run.record.directory import read_metrics
from gatelab.run.train import train

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(1800)]

TINY = [
    *("data=adding", "data.steps=4", "data.train_items=8", "data.batch_size=4"),
    *("data.eval_items=4", "data.eval_batch_size=4", "trainer.max_epochs=1", "trainer.log_every_n_steps=1"),
    *("task.net.normalization=none", "model.hidden_size=2", "callbacks.progress=null", "test=false"),
]
GROUPS = (*OF_A_RUN, "experiment", "debug")


def verdict(command, overrides, capsys):
    """Exit code and the message of a command; a traceback is an error of the test."""
    capsys.readouterr()
    code = main([command, *overrides])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("key", ["accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval"])
def test_an_interval_of_zero_is_refused_with_its_key(key):
    config = compose([*TINY, f"trainer.{key}=0"]).resolved()
    assert refusal(config).startswith(f"trainer.{key}=0: give at least 1")


def test_devices_in_a_text_are_refused_with_the_list() -> None:
    """Lightning reads them, but neither the slots of a sweep nor the scoring would."""
    found = list(trainer_problems({"devices": "1,3"}))
    assert found == [
        "trainer.devices='1,3': write the numbers of the devices as a list: trainer.devices=[1,3]."
    ]
    assert not list(trainer_problems({"devices": "2"}))


def test_a_gpu_is_asked_for_where_the_run_is_to_be():
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    config = compose([*TINY, "trainer=gpu"]).resolved()
    assert "sees no GPU here" in refusal(config)
    assert refusal(config, here=False) is None


@pytest.mark.parametrize("group", [g for g in GROUPS if g not in ("logger", "experiment", "debug")])
def test_null_names_the_choices(group, capsys):
    code, text = verdict("check", [f"{group}=null"], capsys)
    assert code == 2
    assert f"Choices for {group}: {', '.join(choices_of(group, [CONF_DIR]))}." in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["+model.hidden_size=8"], "leave the + out: model.hidden_size=8"),
        (["~callbacks.gates=foo"], "its value is not that one"),
        (["trainer.detect_anomaly=true"], "write +trainer.detect_anomaly=true"),
        (
            ["model.hidden_siz=3", "model.hidden_size=4"],
            "(model.hidden_siz=3). Did you mean 'model.hidden_size'?",
        ),
        (
            ["model.hidden_size=${oc.env:FLAGS_TEST_N}"],
            "'model.hidden_size=\"${oc.decode:${oc.env:FLAGS_TEST_N}}\"'",
        ),
        (["model._target_=no_such_module.A"], "With PYTHONPATH=DIR before the command"),
        (["task._target_=pytorch_lightning.LightningModule"], "lacks spec_type, unit, figures, train_loss"),
        (["data._target_=pytorch_lightning.LightningDataModule"], "gatelab.data.PlainDataModule"),
        (["optim._target_=torch.optim.RMSprop", "optim.beta1=0.5"], "~optim.beta1 leaves it out"),
        (["logger=[nope]"], "Choices for logger: csv, off, tensorboard, wandb."),
        (["task=language_model"], "choose task=forecasting"),
        (["name=a,b"], """'name="a,b"'"""),
        (["model=[gru,lstm]"], "a run has one model; `gatelab sweep` tries several, model=gru,lstm."),
        (["+experiment=quickstart"], "leave the + out: experiment=quickstart"),
        (["++model=gru"], "leave the + out: model=gru"),
        (["~data"], "a run needs one, data=NAME"),
        (["data=[]"], "a run needs one, data=NAME"),
        (["=1"], "cannot read the override '=1': no key"),
        (["~"], "cannot read the override '~': no key"),
        (["@data=adding"], "cannot read the override '@data=adding': no key"),
        (["optim@trainer=adam"], "optim=NAME chooses it"),
        (["optim.LR=1"], "Did you mean 'optim.lr'?"),
        (["optim={_target_: torch.optim.SGD, nope: 1}"], "++optim={_target_: torch.optim.SGD, nope: 1} adds"),
        (["note=${note}"], "note: Recursive interpolation detected"),
        (["name=${name}"], "name: Recursive interpolation detected"),
        (
            [
                "data.steps=4",
                "trainer._target_=torch.nn.Linear",
                "trainer.max_epochs=1",
                "trainer.max_steps=1",
            ],
            "takes none of",
        ),
        (["name=${oc.env:NOPE}"], "NOPE"),
        (["model.hidden_size=3000000"], "does not fit into this machine's memory"),
        (["model.hidden_size=1000000000000000000"], "model: "),
    ],
)
@pytest.mark.quick(1, rest="ci")
def test_a_refusal_names_the_fix(given, said, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("FLAGS_TEST_N", "4")
    base = [] if given[0] == "data=text" else ["data=adding"]
    code, text = verdict("train", [*base, *given, f"paths.root={tmp_path}"], capsys)
    assert code == 2
    assert said in text


@pytest.mark.parametrize(
    "mark", [*"äßé漢 ()[]{}'#%@|*=~:$&;!,?<>`^+", "\u00a0", "~/x", "a b/ß (1)", "{a,b", "[1"]
)
@pytest.mark.quick(7, rest="ci")
def test_the_line_to_type_is_one_that_hydra_and_the_shell_read(mark, capsys):
    value = f"f{mark}.csv"
    code, text = verdict("check", ["data=table", f"data.path={value}"], capsys)
    line = quoted(f"data.path={value}")
    (typed,) = shlex.split(line)
    assert OverridesParser.create().parse_overrides([typed])[0].value() == value
    assert code in (0, 2)
    assert line in text or "cannot read the override" not in text


@pytest.mark.parametrize("name", ["adding.yaml", "./adding", "/adding"])
@pytest.mark.quick(1, rest="ci")
def test_a_choice_may_be_written_as_its_file(name):
    assert compose([f"data={name}"]).resolved() == compose(["data=adding"]).resolved()


@pytest.mark.parametrize("debug", choices_of("debug", [CONF_DIR]))
@pytest.mark.quick(1, rest="ci")
def test_an_experiment_with_an_interval_can_be_debugged(debug):
    assert refusal(compose(["experiment=quickstart", f"debug={debug}"]).resolved()) is None


@functools.cache
def composed(*overrides):
    return compose(overrides).resolved()


@pytest.mark.parametrize(
    ("given", "changed", "batches"),
    [
        (TINY, {}, 2),
        (TINY, {"data": {"train_items": 9}}, 3),
        (TINY, {"data": {"folds": 2, "fold": 0}}, 2),
        (TINY, {"trainer": {"limit_train_batches": 1}}, 1),
        (TINY, {"trainer": {"limit_train_batches": 0.5}}, 1),
        (["data.max_characters=20000", "data.burn_in=1"], {"trainer": {"limit_train_batches": 3}}, 3),
        (["experiment=ptb_gru"], {"trainer": {"limit_train_batches": 3}}, 3),
    ],
)
def test_an_interval_above_an_epoch_is_refused_where_the_epoch_is_known(given, changed, batches):
    config = {
        group: {**node, **changed.get(group, {})} if isinstance(node, dict) else node
        for group, node in composed(*given).items()
    }
    for interval in (batches, batches + 1):
        config["trainer"] |= {"val_check_interval": interval, "check_val_every_n_epoch": 1}
        text = refusal(config)
        assert (text is None) == (interval <= batches)
        assert text is None or f"an epoch has {batches} batch" in text
    config["trainer"]["check_val_every_n_epoch"] = None
    assert refusal(config) is None


def test_more_loader_workers_than_a_machine_holds_are_refused():
    config = composed(*TINY)
    assert "give at most 256" in refusal({**config, "data": {**config["data"], "num_workers": 100_000_000}})


def test_data_that_would_be_downloaded_are_not_asked_for_their_length():
    config = composed("experiment=ptb_gru")
    assert refusal({**config, "trainer": {**config["trainer"], "val_check_interval": 1000000}}) is None


SCHEDULES = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [2, 4]},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "OneCycleLR": {"max_lr": 0.1},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "cycle_momentum": False},
    "SequentialLR": {
        "milestones": [1],
        "schedulers": [
            {"_target_": f"torch.optim.lr_scheduler.{name}", "_partial_": True}
            for name in ("LinearLR", "CosineAnnealingLR")
        ],
    },
    "ReduceLROnPlateau": {"mode": "max"},
} | {name: {} for name in ("CosineAnnealingLR", "PolynomialLR", "ConstantLR", "LinearLR")}


def schedule_of_torch(name, **options):
    return {"_target_": f"torch.optim.lr_scheduler.{name}", "_partial_": True, **options}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_of_torch_is_given_what_it_asks_for(name):
    config = {**composed(*TINY), "schedule": schedule_of_torch(name, **SCHEDULES[name])}
    assert not problems(config)
    assert refusal(config) is None


@pytest.mark.parametrize(
    ("group", "node", "said"),
    [
        ("schedule", schedule_of_torch("StepLR"), "schedule.step_size: StepLR needs it"),
        ("schedule", {"warmup": 40}, "do not fit into a run of 2 steps"),
        ("optim", {"lr": float("inf")}, "optim.lr: the learning rate lr has to be finite"),
        ("optim", {"_target_": "torch.optim.SparseAdam", "_partial_": True}, "dense gradients"),
        ("optim", {"_target_": "torch.optim.Muon", "_partial_": True}, "only supports 2D parameters"),
        ("optim", {"_target_": "torch.optim.Adam", "_partial_": True, "capturable": True}, "capturable=True"),
        ("model", {"_args_": [1]}, "multiple values for argument 'input_size'"),
        ("model", {"_partial_": 1}, "not of type bool"),
        ("model", {"_convert_": "foo"}, "not one of none, partial, object, all"),
    ],
)
def test_what_would_fail_at_the_first_step_is_refused(group, node, said):
    config = composed(*TINY)
    config = {**config, group: node if "_target_" in node else {**config[group], **node}}
    found = problems(config)
    assert said in (found[0][1] if found else refusal(config))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_of_torch_trains(name, tmp_path):
    node = OmegaConf.to_yaml(SCHEDULES[name])
    (tmp_path / "schedule").mkdir()
    (tmp_path / "schedule/own.yaml").write_text(
        f"_target_: torch.optim.lr_scheduler.{name}\n_partial_: true\n{node if SCHEDULES[name] else ''}"
    )
    result = train([*TINY, "schedule=own", f"paths.root={tmp_path}"], config_dirs=[tmp_path])
    assert result["outcome"] == "done"


class PlainData(pl.LightningDataModule):
    """Three splits of random windows; the training loader shuffles."""

    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.batch_size = batch_size

    def _loader(self, items, shuffle=False):
        draw = torch.Generator().manual_seed(items)
        past, future = (torch.randn(items, steps, 1, generator=draw) for steps in (8, 2))
        return DataLoader(TensorDataset(past, future), batch_size=self.batch_size, shuffle=shuffle)

    def train_dataloader(self):
        return self._loader(12, shuffle=True)

    def val_dataloader(self):
        return self._loader(5)


class PlainLogger(Logger):
    """Keeps what it is given, or fails."""

    name, version = "plain", "1"
    kept: ClassVar[list[Any]] = []

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails

    def log_hyperparams(self, params, *args, **kwargs):
        self.kept.append(params)

    def log_metrics(self, metrics, step=None):
        if self.fails:
            raise ConnectionError("no network")
        self.kept.append({**metrics, "step": step})


PLAIN = [
    *("task=forecasting", "task.net.normalization=none", "model.hidden_size=2", "callbacks.progress=null"),
    *("data._target_=gatelab.data.PlainDataModule", f"+data.module._target_={__name__}.PlainData"),
    "+data.spec={kind:forecasting,channels:[a],targets:[a],target_index:[0],lookback:8,horizon:2,season:1,frequency:'',"
    "mean:[0.0],std:[1.0],mase_scale:[1.0],windows:{train:12,valid:5}}",
]


@pytest.mark.ci
def test_a_plain_datamodule_trains_with_a_spec_given_in_yaml_and_continues_exactly(tmp_path):
    whole = train([*PLAIN, "trainer.max_steps=5", f"paths.root={tmp_path / 'a'}"])
    assert set(whole["splits"]) == {"valid"}
    again = train([*PLAIN, "trainer.max_steps=5", f"paths.root={tmp_path / 'b'}"])
    assert whole["best"] == again["best"]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.quick(1, rest="ci")
def test_a_plain_logger_gets_configuration_and_metrics_and_cannot_stop_the_run(fails, tmp_path, capsys):
    PlainLogger.kept.clear()
    logger = f"+logger.x={{_target_: {__name__}.PlainLogger, fails: {fails}}}"
    result = train([*TINY, logger, f"paths.root={tmp_path}"])
    assert result["outcome"] == "done"
    assert PlainLogger.kept[0]["model"]["hidden_size"] == 2
    assert fails == ("logger.x cannot be used: ConnectionError: no network" in capsys.readouterr().err)
    assert fails or any("val/mse" in row for row in PlainLogger.kept)
    rows = read_metrics(Path(result["run_dir"]) / "metrics.csv")
    assert fails or {row["step"] for row in PlainLogger.kept[1:]} == {int(row["step"]) for row in rows}


def test_lightnings_own_logger_writes_below_the_run(tmp_path):
    result = train(
        [*TINY, "+logger.x._target_=pytorch_lightning.loggers.CSVLogger", f"paths.root={tmp_path}"]
    )
    assert os.path.isfile(f"{result['run_dir']}/lightning_logs/version_0/metrics.csv")


@pytest.mark.parametrize(
    "name",
    ["RMSprop", "Adadelta", "Adagrad", "NAdam", "RAdam", "Adamax", "Rprop", "ASGD", "Adafactor", "LBFGS"],
)
@pytest.mark.quick(4, rest="ci")
def test_an_optimiser_of_torch_takes_the_arguments_of_the_group_that_fit_it(name, tmp_path):
    config = compose([*TINY, f"optim._target_=torch.optim.{name}", "optim.lr=0.5"]).resolved()
    assert config["optim"]["lr"] == 0.5
    assert "beta1" not in config["optim"]
    assert refusal(config) is None


@pytest.mark.parametrize(
    "more", [[], ["trainer.check_val_every_n_epoch=2"], ["trainer.accumulate_grad_batches=2"]]
)
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.quick(4)
@pytest.mark.quick(1, rest="ci")
def test_the_last_step_is_validated(steps, more, tmp_path):
    given = [*TINY, "data.train_items=16", "trainer.max_epochs=-1", f"trainer.max_steps={steps}", *more]
    result = train([*given, f"paths.root={tmp_path}"])
    assert result["steps"] == steps
    rows = read_metrics(Path(result["run_dir"]) / "metrics.csv")
    assert int([row for row in rows if row.get("val/mse")][-1]["step"]) == steps

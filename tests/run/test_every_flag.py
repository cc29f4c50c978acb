"""Every value of every flag works or is refused before the first step, and `check` says what `train` says.

The values are generated from the signatures of Lightning's Trainer and callbacks, of the DataModules, and from the
groups of the configuration.
"""

import inspect
import wave

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import pytorch_lightning.callbacks as lightning_callbacks

from gatelab.run.config.signatures import signature_of

from .test_flags import GROUPS, TINY, verdict

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(1200)]

GENERAL = ("null", "true", "0", "2", "-1", "0.5", "1.5", "text", "[1]", "1000000")
FEW = ("null", "-1", "text")
"""Of a callback's argument: its type is checked by the code that checks the Trainer's."""
TRAINER = {
    "accelerator": ("cpu", "auto", "gpu", "tpu", "foo", "null"),
    "strategy": ("auto", "foo", "fsdp", "null"),
    "devices": ("1", "0", "-1", "auto", "[0]", "[]", "null"),
    "precision": (
        "32",
        "64-true",
        "16-mixed",
        "bf16-mixed",
        "bf16-true",
        "transformer-engine",
        "null",
        "foo",
    ),
    "max_time": ("null", "{seconds:0}", "'00:00:00:00'", "'00:01:00:00'", "{foo:1}", "5"),
    "profiler": ("null", "simple", "xla", "foo"),
    "gradient_clip_algorithm": ("norm", "value", "foo", "null"),
    "val_check_interval": ("null", "1", "2", "0", "-1", "0.5", "0.0", "1.5", "'00:00:00:01'", "text"),
    "num_nodes": ("1", "0", "-1", "text"),  # 2: torchrun
    "limit_val_batches": ("null", "0", "1", "-1", "1.5", "text"),  # 0.5: of how many, only the data say
}
CALLBACK = {
    "monitor": ("val/mse", "val/msee", "val_loss", "train/loss", "train/lr", "null", "3"),
    "mode": ("min", "max", "foo", "null"),
    "dirpath": ("null", "0"),
    "duration": ("null", "'00:01:00:00'", "{seconds:1}", "{foo:1}", "5", "text"),
    "swa_lrs": ("0.1", "0", "text"),
    "device": ("cpu", "null", "foo", "3", "xla", "meta"),
    "pruning_fn": ("l1_unstructured", "foo"),
    "scheduling": ("{0:1}", "{0:2}", "{0:0}", "null", "3", "{}", "{-1:1}"),
    "filename": ("null", "foo", "0"),
    "interval": ("step", "epoch", "foo"),
}
NEEDED = {"monitor": "val/mse", "swa_lrs": "0.1", "pruning_fn": "l1_unstructured", "scheduling": "{0:1}"}


def trainer_cases():
    for name in inspect.signature(pl.Trainer).parameters:
        for value in TRAINER.get(name, GENERAL):
            endless = name == "max_epochs" and value in ("null", "1000000")
            yield (f"++trainer.{name}={value}", *(["trainer.max_steps=2"] if endless else []))


def callback_cases():
    for name in lightning_callbacks.__all__:
        parameters = inspect.signature(getattr(lightning_callbacks, name)).parameters
        needed = {key: NEEDED[key] for key in parameters if key in NEEDED and _required(parameters[key])}
        base = {"_target_": f"pytorch_lightning.callbacks.{name}", **needed}
        yield tuple(f"+callbacks.x.{key}={value}" for key, value in base.items())
        for key in signature_of(base["_target_"]).names if name != "LambdaCallback" else ():
            for value in CALLBACK.get(key, FEW):
                yield tuple(f"+callbacks.x.{k}={v}" for k, v in {**base, key: value}.items())


def _required(parameter):
    return parameter.default is parameter.empty


def group_cases():
    for group in GROUPS:
        yield from (
            (f"{group}={value}",)
            for value in ("null", "nope", "[nope]", "''", "3", "true", "_base", "{}", "[]")
        )
        yield from ((f"~{group}",), (f"++{group}=null",))
    for group in ("callbacks", "logger"):
        entries = (
            "x.token=abc",
            "x=3",
            "x=[1]",
            "x=null",
            "x={}",
            "x._target_=torch.nn.Linear",
            "x._target_=nope.Nope",
        )
        yield from ((f"+{group}.{entry}",) for entry in entries)
    for group in ("data", "task", "model", "optim", "schedule", "trainer"):
        yield from (
            (f"{group}._target_={t}",) for t in ("torch.nn.Linear", "nope.Nope", "torch.nope", "nope", "null")
        )


SHORT = (
    *("trainer.max_steps=2", "trainer.log_every_n_steps=1", "model.hidden_size=2"),
    *("callbacks.progress=null", "test=false"),
)
DATA = {
    "AddingDataModule": ("data=adding", "data.steps=4", "data.train_items=8", "data.eval_items=4"),
    "CopyMemoryDataModule": ("data=copy_memory", "data.delay=3", "data.train_items=8", "data.eval_items=4"),
    "SeriesDataModule": (
        *("data=table", "data.path={}/table.csv", "data.time=time", "data.lookback=8", "data.horizon=4"),
        "data.split=[0.6,0.2,0.2]",
    ),
    "TextDataModule": ("data=text", "data.path={}/text.txt", "data.level=char"),
    "PanelDataModule": (
        *("data=panel", "data.path={}/panel.csv", "data.time=time", "data.target=[a]"),
        *("data.lookback=8", "data.horizon=4"),
    ),
    "LabelledTableDataModule": ("data=labelled", "data.path={}/labelled.csv", "data.text=a", "data.label=b"),
    "PairsDataModule": ("data=pairs", "data.path={}/labelled.csv", "data.source=a", "data.target=b"),
    "SoundDataModule": ("data=audio", "data.path={}/sounds"),
    "SpeechDataModule": ("data=transcribed", "data.path={}/spoken.csv"),
}
"""A run of each DataModule that trains two steps; `{}` is the folder of `files`."""
LARGE = ("items", "delay", "steps")
"""Words of keys whose large values would only fill the memory."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """A value such as data.cache=text makes a folder where the command stands."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small table, panel, text, set of labelled texts and of sounds."""
    folder = tmp_path_factory.mktemp("files")
    draw = np.random.default_rng(0)
    hours = pd.date_range("2024-01-01", periods=120, freq="h")
    table = pd.DataFrame({"time": hours, "a": draw.normal(size=120), "b": draw.normal(size=120)})
    table.to_csv(folder / "table.csv", index=False)
    panel = pd.concat([table.assign(unique_id=name) for name in ("x", "y")])
    panel.to_csv(folder / "panel.csv", index=False)
    words = [f"{'red' if n % 2 else 'blue'} {'abcdefg'[n % 7]} {n}" for n in range(60)]
    (folder / "text.txt").write_text("\n".join(words * 20))
    pd.DataFrame({"a": words, "b": [w.split()[0] for w in words]}).to_csv(
        folder / "labelled.csv", index=False
    )
    spoken = ["path,transcript"]
    for number in range(24):
        name = f"sounds/{'low' if number % 2 else 'high'}/{number}.wav"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(folder / name), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            sound.writeframes((draw.normal(size=1600 + 40 * number) * 3000).astype("<i2").tobytes())
        spoken.append(f"{name},{'ab' if number % 2 else 'ba'}")
    (folder / "spoken.csv").write_text("\n".join(spoken))
    return folder


def data_cases(name):
    """The keys that no DataModule before it in `DATA` has: what several share is one code, and tried once."""
    keys = {n: signature_of(f"gatelab.data.{n}").names for n in DATA}
    before = {key for other in [*DATA][: [*DATA].index(name)] for key in keys[other]}
    for key in (key for key in keys[name] if key not in before):
        values = ("0", "-1", "null", "text", "1.5")
        if not {*LARGE} & {*key.split("_")}:
            values += ("100000000",)
        yield from ((f"++data.{key}={value}",) for value in values)


def walk(base, cases, tmp_path, capsys, reads=False):
    """Every verdict is 0 or 2, and the same twice; with `reads` the data alone may refuse what `check` accepts."""
    code, text = verdict("train", [*base, f"paths.root={tmp_path}"], capsys)
    assert code == 0, text
    wrong = []
    for number, case in enumerate(cases):
        given = [*base, *case, f"paths.root={tmp_path / str(number)}"]
        try:
            checked, trained = verdict("check", given, capsys), verdict("train", given, capsys)
        except (Exception, SystemExit) as error:
            wrong.append(f"{case}: {type(error).__name__}: {error}")
            continue
        same = checked[0] in ((0, trained[0]) if reads else (trained[0],)) and trained[0] in (0, 2)
        if not same or (trained[0] == 2 and trained[1].count("\n") > 3):
            wrong.append(f"{case}: check {checked}, train {trained}")
    assert not wrong, "\n".join(wrong)


def test_every_argument_of_the_trainer_works_or_is_refused(tmp_path, capsys):
    walk(TINY, trainer_cases(), tmp_path, capsys)


def test_every_callback_of_lightning_works_or_is_refused(tmp_path, capsys):
    walk(TINY, callback_cases(), tmp_path, capsys)


def test_every_group_value_works_or_is_refused(tmp_path, capsys):
    walk(TINY, group_cases(), tmp_path, capsys)


@pytest.mark.parametrize("name", DATA)
def test_every_argument_of_a_datamodule_works_or_is_refused(name, files, tmp_path, capsys):
    walk(
        [*SHORT, *(item.format(files) for item in DATA[name])], data_cases(name), tmp_path, capsys, reads=True
    )

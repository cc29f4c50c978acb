"""The signature check: unknown keys, wrong types, missing targets, each with its file and line."""

import re
import shlex
import time

import pytest

from gatelab.run import CONF_DIR, RequestError
from gatelab.run.config import check, compose, metrics_of, problems
from gatelab.run.config.signatures import signature_of, type_problems


def refusal(*overrides, config_dirs=()):
    with pytest.raises(RequestError) as error:
        check(compose(overrides, config_dirs=config_dirs))
    return str(error.value)


def experiment(folder, text):
    (folder / "experiment").mkdir(exist_ok=True)
    (folder / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}")
    return ["experiment=mine"], [folder]


def test_a_typo_inside_a_file_is_named_with_file_line_and_spelling(tmp_path):
    overrides, folders = experiment(tmp_path, "model:\n  hiden_size: 3\n")
    message = refusal(*overrides, config_dirs=folders)
    assert "model.hiden_size" in message
    assert "'hidden_size'" in message
    assert "experiment/mine.yaml:3" in message


def test_a_typo_in_a_nested_node_is_found(tmp_path):
    overrides, folders = experiment(tmp_path, "task:\n  net:\n    tyed: true\n")
    assert "Did you mean 'tied'?" in refusal(*overrides, config_dirs=folders)


def test_an_unknown_group_is_named(tmp_path):
    overrides, folders = experiment(tmp_path, "modell:\n  hidden_size: 3\n")
    assert "modell: no such key. Did you mean 'model'?" in refusal(*overrides, config_dirs=folders)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model.hidden_size=abc", "model.hidden_size"),
        ("model.hidden_size=1.5", "model.hidden_size"),
        ("optim.lr=fast", "optim.lr"),
        ("seed=x", "seed"),
        ("task.net.tied=maybe", "task.net.tied"),
        ("data.level=letters", "data.level"),
        ("task.monitor=val/los", "task.monitor"),
        ("trainer.max_epochs=many", "trainer.max_epochs"),
        ("callbacks.checkpoints.every_n_steps=often", "callbacks.checkpoints.every_n_steps"),
    ],
)
@pytest.mark.quick(2, rest="ci")
def test_a_wrong_type_is_named(override, key):
    message = refusal(override)
    assert message.startswith(f"{key}:")
    assert "on the command line" in message


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.level=wrod"], "data.level: 'wrod' is not one of word, char, byte, bpe. Did you mean 'word'?"),
        (["matmul_precision=low"], "matmul_precision: 'low' is not one of highest, high, medium, null."),
        (["data=etth1", "data.target=OT"], "A list is written data.target=[OT]."),
        (["trainer.precision=12"], "trainer.precision: 12 is not one of 64, 32, 16, transformer-engine,"),
        (["+model.device=meta"], "model.device: trainer.accelerator decides that in a run"),
        (["+model.device=cuda:0"], "model.device: trainer.accelerator decides that in a run"),
        (["seed=-1"], "seed: -1 is out of range: 0 to 4294967295."),
        (["threads=0"], "threads: 0 is out of range: 1 to"),
        (["data=text"], "data.path: missing; give data.path=..."),
    ],
)
def test_a_value_that_does_not_fit_is_told_how_to_write_it(overrides, said):
    message = refusal(*overrides)
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["2019", "1.5", "-3", "true", "false"])
@pytest.mark.parametrize(
    ("key", "value"), [("data.time", "{}"), ("data.target", "[{}]"), ("data.channels", "[load,{}]")]
)
def test_names_of_columns_that_look_like_something_else_come_with_the_override_to_type(name, key, value):
    table = ["data=table", "data.path=my.csv"]
    message = refusal(*table, f"{key}={value.format(name)}")
    (fix,) = re.findall(r" is written (.*)\. \(on the command line\)", message)
    (override,) = shlex.split(fix)
    composed = compose([*table, override])
    given = composed.config["data"][key.partition(".")[2]]
    assert given == (name if value == "{}" else ["load"] * (value != "[{}]") + [name])
    check(composed)


def test_a_misspelt_monitor_is_named_with_the_nearest_metric():
    assert "no 'val/los'. Did you mean 'val/loss'? It logs val/loss, val/ppl" in refusal(
        "task.monitor=val/los"
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("paths.output_dir=x", "Keys of 'paths': root, runs, cache, mirror."),
        ("trainer.max_epoch=2", "Did you mean 'trainer.max_epochs'?"),
        ("model.hiddensize=3", "Did you mean 'model.hidden_size'?"),
        ("optim.hiden_size=3", "Did you mean 'model.hidden_size'?"),
        ("model.lr=2", "Did you mean 'optim.lr'?"),
        ("optm.lr=2", "Did you mean 'optim.lr'?"),
        ("task.dropout=0.1", "Did you mean 'task.net.dropout'?"),
        ("lr=2", "Did you mean 'optim.lr'?"),
    ],
)
@pytest.mark.quick(1, rest="ci")
def test_the_nearest_key_is_looked_for_in_the_same_group_first(override, said):
    assert refusal(override).endswith(said)


def test_a_key_forced_in_with_plus_is_checked_too():
    assert "Did you mean 'hidden_size'?" in refusal("+model.hiden_size=3")


def test_a_target_that_is_not_there_is_named():
    assert "Did you mean 'GRU'?" in refusal("model._target_=gatelab.core.GRUU")
    assert "no module 'gatelab.cores'" in refusal("model._target_=gatelab.cores.GRU")


def test_every_mistake_is_listed_at_once():
    message = refusal("model.hidden_size=abc", "optim.lr=fast")
    assert len(message.splitlines()) == 2


def test_an_integer_is_a_fine_float_and_null_a_fine_optional():
    config = check(compose(["optim.lr=1", "data.eval_window=null"]))
    assert config["optim"]["lr"] == 1
    assert config["data"]["eval_window"] is None


@pytest.mark.parametrize("name", ["a/b", "..", "''"])
@pytest.mark.quick(1, rest="ci")
def test_the_name_of_a_run_is_that_of_one_folder(name):
    assert "is not the name of one folder below paths.runs" in refusal(f"name={name}")


SHIPPED = sorted(
    set(re.findall(r"_target_: (\S+)", "\n".join(path.read_text() for path in CONF_DIR.rglob("*.yaml"))))
)


@pytest.mark.parametrize("target", SHIPPED)
def test_every_shipped_target_has_a_signature_with_types(target):
    signature = signature_of(target)
    assert signature.required <= set(signature.names)
    assert set(signature.hints) == set(signature.names)
    assert metrics_of(target) == [] or target.startswith("gatelab.tasks.")


def test_inherited_wrapped_and_generated_signatures_are_followed(tmp_path, monkeypatch):
    (tmp_path / "odd_module.py").write_text(
        "from __future__ import annotations\nimport functools\nfrom dataclasses import dataclass\n"
        "from typing import TYPE_CHECKING, Literal\nif TYPE_CHECKING:\n    from nowhere import Absent\n\n"
        "Mode = Literal['fast', 'exact']\n\n"
        "def logged(function):\n    @functools.wraps(function)\n    def inner(*args, **kwargs):\n"
        "        return function(*args, **kwargs)\n    return inner\n\n"
        "class Base:\n    @logged\n"
        "    def __init__(self, size: int, thing: Absent = None, *, mode: Mode = 'fast', **more: int): ...\n\n"
        "class Child(Base):\n    pass\n\n"
        "def base(size: int, rate: float = 0.5): ...\n\nmade = functools.partial(base, 3)\n\n"
        "@dataclass\nclass Settings:\n    size: int\n    rate: float = 0.5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    child = signature_of("odd_module.Child")
    assert (child.names, child.required, child.open_ended) == (("size", "thing", "mode"), {"size"}, True)
    assert not list(type_problems("exact", child.hints["mode"], "mode"))
    assert list(type_problems("slow", child.hints["mode"], "mode"))
    assert not list(type_problems("anything", child.hints["thing"], "thing"))
    assert signature_of("odd_module.made").names == ("rate",)
    assert signature_of("odd_module.Settings").required == {"size"}


def test_a_target_that_cannot_be_called_is_named():
    assert "model._target_: 'gatelab.core.cells.__name__' is not a class or function" in refusal(
        "model._target_=gatelab.core.cells.__name__"
    )


def test_checking_a_configuration_again_is_much_cheaper_than_composing_it():
    """A sweep composes some of its jobs and checks all of them."""
    started = time.perf_counter()
    config = check(compose(["experiment=etth1_gru"]))
    first = time.perf_counter() - started
    started = time.perf_counter()
    assert problems(config) == []
    assert time.perf_counter() - started < first / 10

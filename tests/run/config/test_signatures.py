"""Signatures that are read from source text are those of the imported objects."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gatelab.run.config import CONF_DIR
from gatelab.run.config.schema import type_problems, validator
from gatelab.run.config.signatures import constant_of, from_object, from_source, locate, signature_of
from gatelab.run.config.sources import UnclearSource

FILES = "\n".join(path.read_text() for path in CONF_DIR.rglob("*.yaml"))
TARGETS = sorted(set(re.findall(r"_target_: (\S+)", FILES)))
PROBES = [
    None,
    True,
    0,
    1,
    0.5,
    "",
    "auto",
    "norm",
    "min",
    "16-true",
    [],
    [1],
    ["a"],
    [0.5],
    {},
    {"a": 1},
    {"a": "b"},
]


@pytest.mark.parametrize("target", TARGETS)
def test_the_text_says_what_the_object_says(target):
    module, _, name = target.rpartition(".")
    read, real = from_source(module, name), from_object(locate(target))
    assert (set(read.names), read.required, read.open_ended) == (
        set(real.names),
        real.required,
        real.open_ended,
    )
    for key, hint in real.hints.items():
        if key not in real.names or validator(hint) is None:
            continue
        for probe in PROBES:
            verdicts = [bool(list(type_problems(probe, h, key))) for h in (read.hints[key], hint)]
            assert verdicts[0] == verdicts[1], (key, probe, read.hints[key], hint)


def test_a_shipped_configuration_is_checked_without_torch():
    code = (
        "from gatelab.run.config.compose import compose; from gatelab.run.config.schema import check; import sys; "
        "check(compose(['experiment=etth1_gru', 'logger=[wandb,tensorboard]', 'model=nn_lstm'])); "
        "print(sorted({'torch', 'pytorch_lightning', 'pandas', 'wandb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_made_while_the_module_runs_is_asked_of_the_object(tmp_path, monkeypatch):
    (tmp_path / "odd_module.py").write_text(
        "import functools\n\ndef base(size: int, rate: float = 0.5): ...\n\nmade = functools.partial(base, 3)\n"
        "from dataclasses import dataclass\n\n@dataclass\nclass Settings:\n    size: int\n    rate: float = 0.5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("made", "Settings"):
        with pytest.raises(UnclearSource):
            from_source("odd_module", name)
    assert signature_of("odd_module.made").names == ("rate",)
    assert signature_of("odd_module.Settings").required == {"size"}


def test_inherited_and_wrapped_signatures_are_followed(tmp_path, monkeypatch):
    Path(tmp_path, "plain_module.py").write_text(
        "from __future__ import annotations\nimport functools\nfrom typing import Literal\n\n"
        "Mode = Literal['fast', 'exact']\n\n"
        "def logged(function):\n    @functools.wraps(function)\n    def inner(*args, **kwargs):\n"
        "        return function(*args, **kwargs)\n    return inner\n\n"
        "class Base:\n    @logged\n    def __init__(self, size: int, *, mode: Mode = 'fast', **more: int): ...\n\n"
        "class Child(Base):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    read = from_source("plain_module", "Child")
    assert (read.names, read.required, read.open_ended) == (("size", "mode"), {"size"}, True)
    assert not list(type_problems("exact", read.hints["mode"], "mode"))
    assert list(type_problems("slow", read.hints["mode"], "mode"))


def test_a_tasks_figures_are_read_without_importing_it():
    for target in ("gatelab.tasks.LanguageModelTask", "gatelab.tasks.ForecastTask"):
        assert constant_of(target, "figures") == locate(target).figures
    assert constant_of("gatelab.tasks.ForecastTask", "nosuch") is None

"""Tiny studies for every test here: frozen from the shipped configurations, one to two seconds a run."""

from dataclasses import asdict
from pathlib import Path

import pytest

from gatelab.lab.study.directory import StudyDirectory
from gatelab.lab.study.settings import StudySettings
from gatelab.lab.study.space import Parameter
from gatelab.lab.study.templates import Templates, copy_sources, sources_of

TINY = [
    "experiment=quickstart",
    "trainer.max_epochs=1",
    "trainer.max_steps=6",
    "trainer.val_check_interval=3",
    "trainer.log_every_n_steps=3",
    "model.hidden_size=4",
    "data.max_characters=20000",
    "callbacks=none",
]


def choice(key, *values):
    return Parameter(key, "choice", tuple(values))


def interval(key, low, high):
    return Parameter(key, "float", low=low, high=high, log=True)


@pytest.fixture
def make_study(tmp_path):
    """`make_study("name", overrides, parameters, study settings...)`: a folder with everything frozen."""

    def make(name="tiny", overrides=(), space=(), objectives=(("val/loss", "minimize"),), **settings):
        return write_study(tmp_path, name, overrides, space, objectives, **settings)

    return make


def write_study(root: Path, name, overrides, space, objectives=(("val/loss", "minimize"),), **settings):
    directory = StudyDirectory(root / "studies" / name)
    overrides = [*TINY, *overrides, f"paths.root={root}"]
    templates = Templates(overrides, sources_of([]), name)
    templates.get({})
    written = templates.keep(directory.templates)
    copy_sources(sources_of([]), directory.conf)
    directory.write(
        {
            "name": name,
            "settings": asdict(StudySettings(name=name, **{"threads": 1, **settings})),
            "overrides": overrides,
            "space": [parameter.to_dict() for parameter in space],
            "templates": written,
            "objectives": [{"metric": metric, "direction": way} for metric, way in objectives],
            "cwd": str(root),
        }
    )
    return directory

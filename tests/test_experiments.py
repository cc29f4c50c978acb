"""Every shipped experiment composes, passes the checks, and trains two steps."""

from pathlib import Path

import pytest

from gatelab.run import CONF_DIR
from gatelab.run.config import check, compose
from gatelab.run.train import train

EXPERIMENTS = sorted(p.stem for p in (CONF_DIR / "experiment").glob("[!_]*.yaml"))
NEEDS_NO_FILE = {"stdlib", "embedded_series", "adding", "copy_memory", "lorenz", "retail_panel"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_passes_the_checks(name):
    check(compose([f"experiment={name}"]))


LONG = {
    *(
        "wikitext2_gru",
        "wikitext2_awd_gru",
        "ptb_awd_gru",
    ),  # two million words are counted, or large networks
    *("ptb_gru", "ptb_awd_gru_small", "ptb_char_gru"),  # that of characters with every regulariser is quick
    *("etth1_gru", "etth2_gru", "ettm1_gru", "ettm2_gru", "etth1_quantile_gru", "etth1_gru_small"),
    *("m4_hourly_gru", "m4_weekly_gru", "exchange_gru", "names_gru"),  # large baselines
    *("mnist_rows_gru", "mnist_permuted_gru"),
    *("bai_copy_memory", "bai_adding"),  # a thousand steps are walked
    *("fsdd_gru", "fsdd_speaker_gru", "connected_digits_gru"),  # hours are heard
    *("multi30k_gru", "multi30k_en_de_gru", "multi30k_small"),  # or translated
}
"""Whose two steps take more than a few seconds."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in EXPERIMENTS]
)
@pytest.mark.quick(1, rest="ci")
def test_an_experiment_trains_two_steps(name, tmp_path, request, monkeypatch):
    if compose([f"experiment={name}"]).choices["data"] not in NEEDS_NO_FILE:
        mirror = request.getfixturevalue("mirror")
        for large in ("enwik8", "speech_commands"):
            if name == f"{large}_gru" and not any(mirror.rglob(f"{large}*")):
                pytest.skip(f"{large} is not in the mirror")
        if name.startswith("mnist") and not (mirror / "mnist/train-images-idx3-ubyte.gz").is_file():
            pytest.skip("the original of MNIST is not in the mirror")
        monkeypatch.setenv("GATELAB_DATA_MIRROR", str(mirror))
    few = ["trainer.max_steps=2", "+trainer.limit_train_batches=2", "+trainer.limit_val_batches=1"]
    small = ["model.hidden_size=16", "callbacks=none", "test=false", "trainer.val_check_interval=null"]
    result = train([f"experiment={name}", *[o.lstrip("+") for o in few], *small, f"paths.root={tmp_path}"])
    assert result["outcome"] == "done"
    assert result["steps"] == 2


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_short(name):
    assert len(Path(CONF_DIR / "experiment" / f"{name}.yaml").read_text().splitlines()) <= 30


@pytest.mark.parametrize(
    "group", ["data", "model", "optim", "schedule", "trainer", "callbacks", "logger", "debug"]
)
@pytest.mark.quick(4)
def test_every_choice_of_a_group_passes_the_checks(group):
    for file in sorted((CONF_DIR / group).glob("[!_]*.yaml")):
        given = {
            "text": ["data.path=x.txt"],
            "table": ["data.path=x.csv", "data.time=date"],
            "labelled": ["data.path=x.csv", "data.text=review", "data.label=mood"],
            "audio": ["data.path=sounds"],
            "transcribed": ["data.path=x.csv"],
            "pairs": ["data.source=a.txt", "data.target=b.txt"],
            "panel": ["data.path=x.csv", "data.target=[y]", "data.fourier={24: 3}", "data.static=[shop]"],
        }.get(file.stem, [])
        check(compose([f"{group}={file.stem}", *given]))

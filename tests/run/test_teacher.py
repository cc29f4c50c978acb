"""A run learns from another one's weights, which are part of what it is, wherever they lie."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from gatelab.run import RequestError
from gatelab.run.config import check, compose
from gatelab.run.config.dry_build import refusal
from gatelab.run.record.identity import identify
from gatelab.run.scoring.evaluate import evaluate
from gatelab.run.train import train
from gatelab.tasks import load_checkpoint

pytestmark = pytest.mark.ci

SMALL = [
    *("data=stdlib", "data.max_characters=20000", "data.batch_size=4", "data.window=16", "threads=1"),
    *("trainer.limit_train_batches=4", "trainer.limit_val_batches=2", "trainer.max_epochs=1"),
    *("callbacks=none", "test=false"),
]
STUDENT = [*SMALL, "model.hidden_size=3", "name=student"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The directory of a trained run."""
    root = tmp_path_factory.mktemp("teacher")
    return Path(train([*SMALL, "model.hidden_size=12", "name=teacher", f"paths.root={root}"])["run_dir"])


def test_a_student_learns_and_needs_its_teacher_no_more(teacher, tmp_path):
    mine = tmp_path / "teacher"
    shutil.copytree(teacher, mine)
    done = train([*STUDENT, f"task.teacher={mine}", "task.distill_weight=0.9", f"paths.root={tmp_path}"])
    alone = train([*STUDENT, f"paths.root={tmp_path}"])
    assert done["parameters"] == alone["parameters"]
    record = json.loads((Path(done["run_dir"]) / "run.json").read_text())
    file = next(path for name in ("best", "last") if (path := mine / f"checkpoints/{name}.ckpt").is_file())
    assert record["config"]["source_sha256"] == {
        "task.teacher": hashlib.sha256(file.read_bytes()).hexdigest()
    }
    weights = [
        load_checkpoint(Path(run["run_dir"]) / "checkpoints/last.ckpt")["state_dict"] for run in (done, alone)
    ]
    assert weights[0].keys() == weights[1].keys()
    begun = [(Path(run["run_dir"]) / "trace.csv").read_text().splitlines()[1] for run in (done, alone)]
    assert begun[0] == begun[1]  # the first weights: a teacher draws nothing
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])
    shutil.rmtree(mine)
    assert evaluate(done["run_dir"], "valid")["metrics"] == done["splits"]["valid"]["metrics"]


def test_identity_is_of_the_teachers_weights_and_not_of_their_place(teacher, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(teacher, elsewhere)
    none, one, other = (
        identify(compose([*STUDENT, *given]))
        for given in ([], [f"task.teacher={teacher}"], [f"task.teacher={elsewhere}"])
    )
    assert none.hash8 != one.hash8 == other.hash8
    shutil.rmtree(elsewhere / "checkpoints")
    shutil.copytree(
        Path(train([*SMALL, "model.hidden_size=12", "seed=1", f"paths.root={tmp_path}"])["run_dir"])
        / "checkpoints",
        elsewhere / "checkpoints",
    )
    assert identify(compose([*STUDENT, f"task.teacher={elsewhere}"])).hash8 != one.hash8
    config = check(compose([*STUDENT, f"task.teacher={teacher}"]))
    config["task"]["teacher"] = str(elsewhere)
    assert "has changed since this run was asked for" in (refusal(config) or "")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["task.temperature=3"], "task.temperature: .*give task.teacher=RUN_DIR too"),
        (["task.teacher={}", "task.temperature=0.5"], "task.temperature must be at least 1"),
        (["task.teacher={}", "task.distill_weight=2"], "task.distill_weight must be above 0 and at most 1"),
        (["task.teacher={}", "data=jsb"], "PolyphonyTask learns from no teacher"),
        (["task.teacher={}", "data=names"], "is a run of gatelab.tasks.LanguageModelTask, and this one of"),
    ],
)
def test_a_mistake_is_found_before_any_data_is_read(given, said, teacher):
    config = check(compose([*STUDENT[6:], *(text.format(teacher) for text in given)]))
    assert re.search(said, refusal(config) or "accepted")


def test_a_teacher_that_is_not_there_is_named():
    with pytest.raises(RequestError, match=r"task.teacher=nowhere: no such run directory"):
        check(compose([*STUDENT, "task.teacher=nowhere"]))


def test_other_tokens_are_refused_before_the_first_step(teacher, tmp_path):
    with pytest.raises(RequestError, match="reads other tokens than this run"):
        train([*STUDENT, "data.max_characters=19000", f"task.teacher={teacher}", f"paths.root={tmp_path}"])


def test_a_teacher_that_names_code_of_its_own_is_data(teacher, tmp_path):
    mine = tmp_path / "stranger"
    shutil.copytree(teacher, mine)
    record = json.loads((mine / "run.json").read_text())
    record["config"]["model"]["_target_"] = "stranger.Cell"
    (mine / "run.json").write_text(json.dumps(record))
    with pytest.raises(RequestError, match=r"neither Gatelab's nor this run's own: stranger.Cell"):
        train([*STUDENT, f"task.teacher={mine}", f"paths.root={tmp_path}"])

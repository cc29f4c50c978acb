"""Trials are claimed by one slot at a time, requeued when their owner dies, and never lost, whatever is killed when."""

import dataclasses
import itertools
import json
import subprocess
import sys
import threading

import pytest
from optuna.trial import TrialState

from gatelab.run import RequestError
from gatelab.study.engine.directory import Owner, StudyDirectory
from gatelab.study.engine.queue import Queue

SETTINGS = {
    "name": "s",
    "strategy": "random",
    "sampler_options": {},
    "seed": 0,
    "pruner": "none",
    "pruner_options": {},
    "retries": 2,
    "stale_after": 30.0,
    "storage": None,
}


def new_directory(root, directions=("minimize",), **settings):
    directory = StudyDirectory(root / "s")
    objectives = [{"metric": f"val/{index}", "direction": way} for index, way in enumerate(directions)]
    directory.write({"settings": {**SETTINGS, **settings}, "objectives": objectives})
    return directory


@pytest.fixture
def directory(tmp_path):
    return new_directory(tmp_path)


def join(directory, **changes):
    """A living worker of the study; `changes` make it another one."""
    owner = dataclasses.replace(Owner.me(), **changes)
    owner.register(directory.workers)
    return f"{owner.id}/0"


def suggest(trial):
    trial.suggest_float("lr", 1e-4, 1.0, log=True)
    trial.suggest_categorical("cell", ["gru", "lstm"])


HAMMER = """
import json, sys
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.engine.directory import Owner
from gatelab.study.engine.queue import Queue
directory = StudyDirectory(sys.argv[1])
owner, queue, mine = Owner.me(), Queue(directory), []
owner.register(directory.workers)
sys.stdin.read(1)
while (claim := queue.claim(owner.id + "/0")) is not None:
    mine.append(claim.number)
    queue.propose(claim, lambda trial: trial.suggest_float("x", 0, 1))
    assert queue.tell(claim, [float(claim.number)], attributes={"by": owner.id}) is not None
print(json.dumps(mine))
"""


@pytest.mark.ci
def test_eight_processes_get_every_row_once(directory):
    queue = Queue(directory)
    queue.fill([None] * 120)
    command = [sys.executable, "-c", HAMMER, str(directory.path)]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(8)]
    for worker in workers:  # all begin together
        worker.stdin.write("x")
        worker.stdin.flush()
    taken = [json.loads(worker.communicate(timeout=200)[0]) for worker in workers]
    assert sorted(itertools.chain(*taken)) == list(range(120))
    rows = queue.trials()
    assert [row.value for row in rows] == [float(number) for number in range(120)]
    assert all(row.user_attrs["owner"] == f"{row.user_attrs['by']}/0" for row in rows)


def test_filling_twice_or_after_a_kill_makes_the_missing_rows_only(directory, monkeypatch):
    points = [{"model.hidden_size": size} for size in range(300)]
    queue = Queue(directory)
    assert queue.fill(points[:2]) == 2
    whole = directory.journal.read_bytes()
    assert queue.fill(points) == 298
    for cut in (1, 100, 1000, 20_000):  # killed while it wrote
        directory.journal.write_bytes(directory.journal.read_bytes()[: len(whole) + cut])
        again = Queue(directory)
        again.fill(points)
        assert again.fill(points) == 0
        fixed = [row.system_attrs["fixed_params"] for row in again.trials()]
        assert fixed == points


def test_a_study_keeps_its_points(directory):
    queue = Queue(directory)
    queue.fill([{"x": 1}, {"x": 2}])
    with pytest.raises(RequestError, match=r"trial 1 is there with \{'x': 2\}.*another name"):
        queue.fill([{"x": 1}, {"x": 3}])


def test_a_fixed_row_gets_its_values(directory):
    queue, owner = Queue(directory), join(directory)
    queue.fill([{"cell": "lstm"}])
    claim = queue.claim(owner)
    assert queue.propose(claim, suggest)["cell"] == "lstm"


class KilledError(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def kill_after(queue, monkeypatch, writes):
    """Let the journal of `queue` take so many lines, then die; a batch may be cut in the middle."""
    backend, left = queue.storage._backend, [writes]
    append = backend.append_logs

    def dying(logs):
        whole = logs[: left[0]]
        left[0] -= len(whole)
        if whole:
            append(whole)
        if len(whole) < len(logs):
            raise KilledError

    monkeypatch.setattr(backend, "append_logs", dying)


@pytest.mark.parametrize("writes", range(12))
def test_a_claimer_killed_between_any_two_writes_loses_nothing(directory, monkeypatch, writes):
    first = Queue(directory)
    first.fill([None])
    undisturbed = undisturbed_params(directory)
    owner = join(directory)
    kill_after(first, monkeypatch, writes)
    finished = False
    try:
        claim = first.claim(owner)
        first.propose(claim, suggest)
        first.tell(claim, [1.0], attributes={"values": [1.0], "seconds": 2.0})
        finished = True
    except KilledError:
        pass
    Owner(**json.loads((directory.workers / f"{owner[:-2]}.json").read_text())).leave(directory.workers)

    second, other = Queue(directory), join(directory)
    second.requeue_orphans()
    claim = second.claim(other)
    assert (claim is None) == finished
    if claim is not None:
        second.propose(claim, suggest)
        second.tell(claim, [1.0])
    (row,) = second.trials()
    assert row.state is TrialState.COMPLETE
    assert row.value == 1.0
    assert row.params == undisturbed


def undisturbed_params(directory):
    other = new_directory(directory.path.parent / "undisturbed")
    queue = Queue(other)
    queue.fill([None])
    claim = queue.claim(join(other))
    return queue.propose(claim, suggest)


def test_the_rows_of_a_dead_worker_wait_again_and_those_of_a_living_one_do_not(directory):
    queue = Queue(directory)
    queue.fill([None] * 4)
    alive, gone = join(directory), join(directory, id="gone", birth=1)
    silent = join(directory, id="silent", machine="elsewhere")
    claims = [queue.claim(owner) for owner in (alive, gone, silent, "never-seen/0")]
    assert queue.requeue_orphans() == [1, 3]
    assert [row.state for row in queue.trials()] == [
        TrialState.RUNNING,
        TrialState.WAITING,
        TrialState.RUNNING,
        TrialState.WAITING,
    ]
    assert queue.tell(claims[0], [1.0]) is TrialState.COMPLETE


def test_who_has_lost_a_row_cannot_end_it(directory):
    queue = Queue(directory)
    queue.fill([None])
    late = queue.claim(join(directory, id="gone", birth=1))
    queue.requeue_orphans()
    assert queue.tell(late, [1.0]) is None
    assert not queue.requeue(late, "interrupted", lost=False)
    now = queue.claim(join(directory))
    assert queue.tell(late, [1.0]) is None
    assert queue.tell(now, [2.0]) is TrialState.COMPLETE
    assert queue.trials()[0].value == 2.0


def test_a_row_is_lost_so_often_and_then_fails_with_the_reason(directory):
    queue, owner = Queue(directory), join(directory)
    queue.fill([None])
    for attempts in range(SETTINGS["retries"] + 1):
        claim = queue.claim(owner)
        assert queue.trials()[0].user_attrs.get("attempts", 0) == attempts
        queue.requeue(claim, "killed by SIGKILL", lost=True)
    (row,) = queue.trials()
    assert row.state is TrialState.FAIL
    assert row.user_attrs["error"] == "lost 3 times; the last time: killed by SIGKILL"
    assert queue.claim(owner) is None
    assert (queue.unfinished(), queue.counts()["fail"]) == (0, 1)


def test_an_interrupted_row_is_not_a_lost_one(directory):
    queue, owner = Queue(directory), join(directory)
    queue.fill([None])
    for _ in range(10):
        queue.requeue(queue.claim(owner), "stopped", lost=False)
    assert "attempts" not in queue.trials()[0].user_attrs


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_a_random_study_is_the_same_for_any_order_of_claims_and_tells(directory, order):
    queue, owner = Queue(directory), join(directory)
    queue.fill([None] * 4)
    claims = [queue.claim(owner) for _ in range(4)]
    for index in order:
        queue.propose(claims[index], suggest)
        queue.tell(claims[index], [1.0])
    other = new_directory(directory.path.parent / "one-by-one")
    alone, me = Queue(other), join(other)
    alone.fill([None] * 4)
    while (claim := alone.claim(me)) is not None:
        alone.propose(claim, suggest)
        alone.tell(claim, [2.0])
    assert [row.params for row in queue.trials()] == [row.params for row in alone.trials()]
    assert len({row.params["lr"] for row in queue.trials()}) == 4


def test_slots_of_one_process_may_share_a_queue(directory):
    queue, owner = Queue(directory), join(directory)
    queue.fill([None] * 40)
    taken = []

    def slot():
        while (claim := queue.claim(owner)) is not None:
            queue.propose(claim, suggest)
            taken.append(claim.number)
            queue.tell(claim, [0.0])

    threads = [threading.Thread(target=slot) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(40))
    assert queue.counts()["complete"] == 40


def test_a_step_reported_twice_keeps_its_first_value(tmp_path):
    directory = new_directory(tmp_path, pruner="ThresholdPruner", pruner_options={"upper": 5.0})
    queue, owner = Queue(directory), join(directory)
    queue.fill([None])
    claim = queue.claim(owner)
    assert queue.report(claim, 0, 1.0) is False
    queue.requeue(claim, "killed", lost=True)
    claim = queue.claim(owner)
    assert queue.report(claim, 0, 2.0) is False
    assert queue.report(claim, 1, 9.0) is True
    assert queue.tell(claim, state=TrialState.PRUNED) is TrialState.PRUNED
    assert queue.trials()[0].intermediate_values == {0: 1.0, 1: 9.0}


def test_nothing_is_pruned_with_several_objectives(tmp_path):
    directory = new_directory(
        tmp_path, ("minimize", "maximize"), pruner="ThresholdPruner", pruner_options={"upper": 5.0}
    )
    queue, owner = Queue(directory), join(directory)
    queue.fill([None])
    claim = queue.claim(owner)
    assert queue.report(claim, 0, 9.0) is False
    assert queue.tell(claim, [1.0, 2.0]) is TrialState.COMPLETE
    assert queue.trials()[0].values == [1.0, 2.0]


def test_an_objective_that_is_not_a_number_fails_the_row(directory):
    queue, owner = Queue(directory), join(directory)
    queue.fill([None])
    assert queue.tell(queue.claim(owner), [float("nan")]) is TrialState.FAIL
    assert "not a number" in queue.trials()[0].user_attrs["error"]


def test_tpe_learns_from_what_was_told(tmp_path):
    directory = new_directory(tmp_path, strategy="tpe", sampler_options={"n_startup_trials": 5})
    queue, owner = Queue(directory), join(directory)
    queue.fill([None] * 30)
    values = []
    while (claim := queue.claim(owner)) is not None:
        x = queue.propose(claim, lambda trial: trial.suggest_float("x", -10, 10))["x"]
        values.append((x - 3) ** 2)
        queue.tell(claim, [values[-1]])
    assert sum(values[20:]) / 10 < sum(values[:5]) / 5 / 4


def test_a_storage_keeps_studies_of_two_folders_apart(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    (tmp_path / "one").mkdir()
    Queue(new_directory(tmp_path / "one", storage=url))
    with pytest.raises(RequestError, match=r"already holds a study 's', that of .*one/s"):
        Queue(new_directory(tmp_path / "two", storage=url))


def test_other_objectives_are_refused(directory, tmp_path):
    Queue(directory)
    new_directory(tmp_path, ("maximize",))
    with pytest.raises(RequestError, match=r"directions minimize, and study\.json says maximize"):
        Queue(directory)

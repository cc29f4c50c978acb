"""Values that fit each by itself and not together are refused by `check` as by the run, with the fix."""

import itertools

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import gatelab
from gatelab import tasks
from gatelab.core import BackendError
from gatelab.data import DataError
from gatelab.data.plain_module import KINDS, Passes
from gatelab.run import RequestError
from gatelab.run.config import check, compose, problems
from gatelab.run.config.dry_build import refusal
from gatelab.run.config.monitors import directions
from gatelab.run.config.trainer_problems import REWIRES
from gatelab.run.train import train

from .test_flags import PLAIN, TINY, PlainData, composed, verdict

pytestmark = pytest.mark.filterwarnings("ignore")

TASKS = {
    f"gatelab.tasks.{name}": kind
    for name in tasks.__all__
    if isinstance(kind := getattr(tasks, name), type) and getattr(kind, "figures", None)
}
RANKING = [
    (target, metric, better)
    for target, kind in TASKS.items()
    for metric, better in directions(kind).items()
    if better
]
OTHER = {"min": "max", "max": "min"}


def changed(config, group, **keys):
    return {**config, group: {**config[group], **keys}}


@pytest.mark.parametrize(("target", "metric", "better"), RANKING)
def test_a_task_ranks_no_metric_the_wrong_way_round(target, metric, better):
    config = changed(composed(*TINY), "task", _target_=target, monitor=metric)
    found = dict(problems(changed(config, "task", mode=OTHER[better])))
    assert found["task.mode"].endswith(f"give task.mode={better}.")
    assert "task.mode" not in dict(problems(changed(config, "task", mode=better)))


WATCHING = {
    "gatelab.tasks.callbacks.Checkpoints": "checkpoints",
    "pytorch_lightning.callbacks.EarlyStopping": "x",
    "pytorch_lightning.callbacks.ModelCheckpoint": "x",
}


@pytest.mark.parametrize("target", WATCHING)
@pytest.mark.parametrize(
    ("metric", "better"),
    [
        *((metric, better) for target, metric, better in RANKING if "Forecast" in target),
        ("train/loss", "min"),
    ],
)
def test_a_callback_follows_no_metric_the_wrong_way_round(target, metric, better):
    name, config = WATCHING[target], composed(*TINY)
    for mode in ("min", "max"):
        node = {"_target_": target, "monitor": metric, "mode": mode}
        text = refusal(changed(config, "callbacks", **{name: node}), read=False)
        assert (text is None) == (mode == better)
        assert text is None or text.endswith(f"give callbacks.{name}.mode={better}.")


def test_the_best_checkpoint_of_the_tasks_own_metric_is_not_the_worst():
    config = composed(*TINY)
    saver = {**config["callbacks"]["checkpoints"], "mode": "max"}
    assert "give callbacks.checkpoints.mode=min" in refusal(changed(config, "callbacks", checkpoints=saver))


FOLLOWING = (
    ("schedule=plateau",),
    ("averaging=non_monotonic", "trainer.max_epochs=20"),
    ("schedule._target_=torch.optim.lr_scheduler.ReduceLROnPlateau",),
)


@pytest.mark.parametrize(("given", "none"), [*itertools.product(FOLLOWING, ("0", "0.0"))])
@pytest.mark.quick(1, rest="ci")
def test_what_follows_the_validations_needs_some(given, none):
    assert refusal(composed(*TINY, *given)) is None
    text = refusal(composed(*TINY, *given, f"trainer.limit_val_batches={none}"))
    assert "trainer.limit_val_batches=0 leaves these out" in text


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_share_of_the_batches_is_at_least_one_of_them(split):
    config = composed(*TINY, "data.eval_items=8")
    for share, fits in ((0.4, False), (0.5, True), (1.0, True)):
        text = refusal(changed(config, "trainer", **{f"limit_{split}_batches": share}))
        assert (text is None) == fits
        assert fits or text.startswith(f"trainer.limit_{split}_batches=0.4: less than one of 2 batches")


@pytest.mark.parametrize("data", ["data=adding", "data=etth1"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"freeze": ["nope"]}, "transfer.freeze: the network has no part 'nope'"),
        ({"freeze": ["normalization", "core", "head"]}, "transfer.freeze: nothing is left to train"),
        ({"unfreeze": 0}, "transfer.unfreeze=0: give at least 1 epoch"),
        ({"decay": 0.5}, "transfer.decay=0.5: give at least 1"),
    ],
)
def test_how_weights_are_trained_on_is_checked_with_and_without_data(data, given, said):
    config = composed(data, "model.hidden_size=2")
    assert refusal(changed(config, "transfer", **given)).startswith(said)
    assert refusal(changed(config, "transfer", freeze=["core"], unfreeze=1, decay=2.6)) is None


NUMBERS = {"32-true": torch.float32, "64-true": torch.float64, "bf16-true": torch.bfloat16}


@pytest.mark.parametrize(
    ("backend", "precision"),
    [*itertools.product(("reference", "torch", "native", "auto"), (*NUMBERS, "bf16-mixed"))],
)
@pytest.mark.quick(2, rest="ci")
def test_a_named_backend_has_the_runs_precision(backend, precision):
    text = refusal(composed(*TINY, f"model.backend={backend}", f"trainer.precision={precision}"))
    dtype = NUMBERS.get(precision, torch.float32)
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            gatelab.GRU(3, 2, backend=backend).to(dtype)(torch.zeros(2, 1, 3, dtype=dtype))
    except BackendError:
        assert text.startswith(f"model.backend: backend='{backend}' cannot serve")
    else:
        assert text is None


@pytest.mark.parametrize("name", sorted({*REWIRES} - {"ProgressBar"}))
def test_a_callback_that_does_not_work_is_refused_before_it_is_made(name):
    node = {"_target_": f"pytorch_lightning.callbacks.{name}"}
    text = refusal(changed(composed(*TINY), "callbacks", x=node), read=False)
    assert text.startswith(f"callbacks.x: {name} does not work here: ")


class Fails(torch.optim.SGD):
    """Cannot take a step."""

    def step(self, closure=None):
        """Raise."""
        raise ValueError("no step")


def test_an_own_optimizer_takes_a_step_before_the_run():
    config = composed(*TINY)
    node = {"_target_": f"{__name__}.Fails", "_partial_": True, "lr": 0.1}
    assert refusal({**config, "optim": node}, read=False) == "optim: no step"


@pytest.fixture
def own_files(tmp_path):
    (tmp_path / "t.txt").write_text("one two three four\n" * 50)
    (tmp_path / "t.csv").write_text("load,other\n" + "1,2\n3,5\n" * 40)
    return tmp_path


TEXT = ("data=text", "data.path={}/t.txt", "data.level=char", "model.hidden_size=2")
TABLE = ("data=table", "data.path={}/t.csv", "data.lookback=8", "data.horizon=4", "model.hidden_size=2")
OWN = [
    (TEXT, "data.batch_size=100000", "data.batch_size=100000 streams need"),
    (TEXT, "data.window=100000", "data.window=100000"),
    (TEXT, "data.path={}/nope.txt", "nope.txt"),
    (TEXT, "data.split=[0.5,0.6]", "data.split"),
    (TEXT, "task.net.cutoffs=[2,4]", "cutoffs"),
    (TABLE, "data.target=[lod]", "lod"),
    (TABLE, "data.lookback=500", "lookback"),
    (TABLE, "task.net.patch=3", "task.net.patch=3 does not divide the look-back of 8 steps"),
    (TABLE, "task.monitor=val/crps", "monitor=val/crps: the network gives points"),
    (TABLE, "task.loss=nope", "nope"),
    (TABLE, "trainer.limit_val_batches=0.0001", "0.0001"),
]


@pytest.mark.parametrize(("base", "given", "said"), OWN)
@pytest.mark.quick(1, rest="ci")
def test_what_own_files_do_not_allow_is_refused_by_check_as_by_the_run(base, given, said, own_files, capsys):
    overrides = [item.format(own_files) for item in (*base, given, "threads=1", "test=false")]
    for command in ("check", "train"):
        code, text = verdict(command, [*overrides, f"paths.root={own_files}"], capsys)
        assert code == 2
        assert said in text


def test_files_that_are_on_another_machine_are_not_asked_for(tmp_path):
    config = check(compose(["data=text", f"data.path={tmp_path}/elsewhere.txt", "data.level=char"]))
    assert "elsewhere.txt" in refusal(config)
    assert refusal(config, here=False) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("data=ptb_char", "data.level=bpe", "data.vocabulary_size=3"), "read at level char only"),
        (("data=tinyshakespeare", "data.level=bpe", "data.vocabulary_size=3"), "give at least 257"),
        (("data=tinyshakespeare", "data.level=byte", "data.vocabulary_size=3"), "at level byte it is 256"),
        (("data=fsdd", "data.leave_out=theo", "data.valid_speaker=theo"), "is the test speaker as well"),
        (("data=fsdd", "data.leave_out=thea"), "Did you mean 'theo'"),
        (("data=connected_digits", "data.valid_speaker=yweweler"), "is the test speaker as well"),
    ],
)
@pytest.mark.quick(2, rest="ci")
def test_what_contradicts_itself_is_refused_before_anything_is_downloaded(given, said, monkeypatch):
    monkeypatch.setattr("gatelab.data.fetch.fetch", None)
    assert said in refusal(composed(*given))


FILES = {
    "model/a_list.yaml": ("- 1\n", "model=a_list", "a_list.yaml: holds a list"),
    "model/early.yaml": (
        "defaults: [gru, override /optim@_global_.optim: sgd]\n",
        "model=early",
        "model/early.yaml: cannot choose optim, which stands after model in train.yaml",
    ),
    "experiment/twice.yaml": (
        "# @package _global_\ndefaults: [/model: lstm]\n",
        "experiment=twice",
        "`- override /model: lstm`",
    ),
    "experiment/path.yaml": (
        "# @package _global_\nhydra: {searchpath: [file:///nope]}\n",
        "experiment=path",
        "--config-dir DIR adds a folder",
    ),
}


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_does_not_compose_is_named_with_the_fix(file, tmp_path):
    content, choice, said = FILES[file]
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(content)
    with pytest.raises(RequestError) as error:
        compose([*TINY, choice], config_dirs=[tmp_path])
    assert said in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_too_few_or_too_many_tensors_is_refused(kind):
    batch = KINDS[kind][1]
    least, most = len(batch._fields) - len(batch._field_defaults), len(batch._fields)
    for count in range(1, most + 2):
        loader = DataLoader(TensorDataset(*(torch.zeros(4, 1) for _ in range(count))), batch_size=2)
        if least <= count <= most:
            assert isinstance(next(iter(Passes(loader, batch, 0, 0, 0))), batch)
        else:
            with pytest.raises(DataError, match=f"a batch of {count} tensor"):
                next(iter(Passes(loader, batch, 0, 0, 0)))


class NoValidation(PlainData):
    """Has nothing to validate on."""

    def val_dataloader(self):
        """Return no batch."""
        return []


def test_a_loader_without_a_batch_is_refused_before_the_first_step(tmp_path):
    module = f"+data.module._target_={__name__}.NoValidation"
    given = [module if item.startswith("+data.module") else item for item in PLAIN]
    with pytest.raises(RequestError, match="val_dataloader gives no batch"):
        train([*given, "trainer.max_steps=2", f"paths.root={tmp_path}"])


@pytest.mark.parametrize("model", ["gru", "nn_gru", "lstm", "nn_lstm", "rnn", "nn_rnn", "mingru"])
@pytest.mark.parametrize("data", ["adding", "etth1"])
@pytest.mark.quick(1, rest="ci")
def test_layers_without_end_are_refused_at_once(model, data):
    text = refusal(
        composed(f"data={data}", f"model={model}", "model.hidden_size=2", "model.num_layers=10000000")
    )
    assert "weight tensors; give fewer layers" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("data=adding", "data.train_items=10000000000"), "data.train_items=10000000000"),
        (("data=adding", "data.steps=100000000"), "each item has 100,000,000"),
        (("data=copy_memory", "data.eval_items=10000000000"), "data.eval_items=10000000000"),
        (("data=copy_memory", "data.delay=100000000"), "at most 100,000,000 steps in all"),
    ],
)
def test_drawn_data_fit_into_memory(given, said):
    assert said in refusal(composed(*given))


@pytest.mark.parametrize("option", ["embedding_dropout=0.1", "n_grams=2", "convolutions=[4,1]"])
@pytest.mark.parametrize("data", ["trec", "names", "mnist", "fsdd", "speech_commands", "audio"])
@pytest.mark.quick(1, rest="ci")
def test_what_reads_words_or_channels_alone_is_refused_where_the_data_have_the_other(data, option):
    tokens = data in ("trec", "names")
    given = [f"data={data}", "model=gru", "model.hidden_size=4", f"task.net.{option}"]
    given += ["data.path=sounds"] * (data == "audio")
    said = refusal(composed(*given), read=False)
    if tokens == (not option.startswith("convolutions")):
        assert said is None
    else:
        assert said.startswith("task.net.")
        assert ("the inputs are tokens" if tokens else "the inputs are channels") in said

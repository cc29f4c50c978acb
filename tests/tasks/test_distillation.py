"""A task that learns from a teacher has the written-out objective, carries the teacher's state, and goes on exactly."""

import functools

import pytest
import torch
from torch.nn import functional as F

from gatelab.core import GRU, SequenceClassifier
from gatelab.data.labelled.spec import LabelledBatch, LabelledSpec
from gatelab.data.specs import IGNORE, TokenBatch
from gatelab.tasks import ClassificationTask, PolyphonyTask
from gatelab.tasks.distillation import refuse_teacher
from gatelab.tasks.optimizers import adam

from .test_resume import assert_same_run, run  # noqa: F401  # a fixture


def divergence(v, u, temperature):
    """T^2 KL(q || p), position by position."""
    p, q = (F.softmax(logits.double() / temperature, -1) for logits in (v, u))
    return temperature**2 * (q * (q.log() - p.log())).sum(-1)


@pytest.fixture
def teacher(text_data, make_task):
    """A teacher of other weights than the student begins with."""
    task = make_task(text_data())
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return task


def test_the_objective_of_a_language_model_over_windows_that_carry_both_states(text_data, make_task, teacher):
    task = make_task(
        text_data(), dropout=0.0, teacher=teacher, distill_weight=0.3, temperature=2.5, label_smoothing=0.1
    )
    plain = make_task(text_data(), dropout=0.0)
    generator = torch.Generator().manual_seed(0)
    state = told = None
    for number in range(3):
        tokens = torch.randint(task.spec.vocabulary, (6, 2), generator=generator)
        targets = torch.randint(task.spec.vocabulary, (5, 2), generator=generator)
        targets[:2, 1] = IGNORE
        reset = torch.tensor([number == 0, number != 1])
        objective, nll, count = task.train_loss(TokenBatch(tokens[:5], targets, reset))
        keep = (~reset).float()[None, :, None]
        with torch.no_grad():
            v, state = plain.net(tokens[:5], None if state is None else state * keep)
            u, told = teacher.net(tokens[:5], None if told is None else told * keep)
        scored = targets != IGNORE
        hard = F.cross_entropy(v[scored], targets[scored], reduction="sum", label_smoothing=0.1)
        soft = divergence(v[scored], u[scored], 2.5).sum()
        assert int(count) == 8
        assert torch.allclose(objective.double(), (0.7 * hard + 0.3 * soft) / 8, rtol=1e-5)
        assert torch.allclose(nll, F.cross_entropy(v[scored], targets[scored], reduction="sum"), rtol=1e-5)


def test_a_teacher_is_frozen_and_no_part_of_the_student(text_data, make_task, make_trainer, teacher):
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    task = make_task(text_data(), teacher=teacher)
    alone = make_task(text_data())
    assert task.state_dict().keys() == alone.state_dict().keys()
    assert len(list(task.parameters())) == len(list(alone.parameters()))
    make_trainer(max_epochs=1).fit(task, datamodule=text_data())
    assert not teacher.net.training
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_killed_student_goes_on_bit_for_bit(run, text_data, teacher, tmp_path):  # noqa: F811
    options = {"task_options": {"teacher": teacher, "temperature": 3.0}}
    assert_same_run(run, text_data, [20], tmp_path, **options)


def test_a_classifier_learns_soft_labels():
    spec = LabelledSpec(("a", "b", "c"), 0, 2, {"train": 4})

    def make(size, **options):
        torch.manual_seed(size)
        core = functools.partial(GRU, hidden_size=size)
        net = ClassificationTask.build_net(SequenceClassifier, core, spec)
        return ClassificationTask(net, spec=spec, optimizer=functools.partial(adam, lr=0.01), **options)

    teacher, generator = make(9), torch.Generator().manual_seed(0)
    task = make(4, teacher=teacher, distill_weight=1.0)
    batch = LabelledBatch(
        torch.randn(4, 5, 2, generator=generator), torch.tensor([5, 3, 1, 4]), torch.tensor([0, 2, 1, 1])
    )
    objective, nll, _ = task.train_loss(batch)
    v, u = (one.net(batch.inputs, batch.lengths) for one in (task, teacher))
    # a divergence near 0 is a difference of logarithms near 1, of which float32 knows 7 digits
    assert torch.allclose(objective.double(), divergence(v, u, 2.0).mean(), rtol=0, atol=1e-6)
    assert torch.allclose(nll, F.cross_entropy(v, batch.labels, reduction="sum"))


@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_a_forecaster_learns_its_teachers_forecast(series_data, make_task, loss):
    data = series_data()
    teacher = make_task(data, dropout=0.0)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(2.0)
    task = make_task(data, dropout=0.0, loss=loss, teacher=teacher, distill_weight=0.25)
    batch = next(iter(data.train_dataloader()))
    objective, total, count = task.train_loss(batch)
    said, told = task.net(batch.past), teacher.net(batch.past)
    error = torch.square if loss == "mse" else torch.abs
    expected = 0.75 * error(said - batch.future).mean() + 0.25 * error(said - told).mean()
    assert torch.allclose(objective, expected, rtol=1e-5)
    assert torch.allclose(total / count, error(said - batch.future).mean(), rtol=1e-5)


def test_what_cannot_be_learnt_is_refused_by_name(text_data, series_data, make_task, teacher):
    text, series = text_data(), series_data()
    for options, said in (
        ({"teacher": teacher, "distill_weight": 0.0}, "distill_weight must be above 0"),
        ({"teacher": teacher, "distill_weight": 1.5}, "at most 1"),
        ({"teacher": teacher, "temperature": 0.5}, "temperature must be at least 1"),
        ({"teacher": make_task(series)}, "a ForecastTask, and this run a LanguageModelTask"),
        ({"temperature": 2.0}, "give teacher=RUN_DIR"),
        ({"teacher": make_task(text_data(vocabulary_size=6))}, "vocabulary 6, and these"),
    ):
        with pytest.raises(ValueError, match=said):
            make_task(text, **options)
    with pytest.raises(ValueError, match=r"has net.output=gaussian; only points"):
        make_task(series, net={"output": "gaussian"}, teacher=make_task(series))
    with pytest.raises(ValueError, match="a forecast of points has none"):
        make_task(series, teacher=make_task(series), temperature=2.0)
    with pytest.raises(ValueError, match="horizon 5, and these 4"):
        make_task(series, teacher=make_task(series_data(horizon=5)))
    with pytest.raises(ValueError, match="PolyphonyTask learns from no teacher"):
        refuse_teacher(PolyphonyTask.__new__(PolyphonyTask), teacher)

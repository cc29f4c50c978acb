import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F

from gatelab.core import LSTM, LanguageModel
from gatelab.data import IGNORE, TokenBatch
from gatelab.tasks import Checkpoints, LanguageModelTask, load_checkpoint
from gatelab.tasks.callbacks import ExponentialAveraging
from gatelab.tasks.optimizers import adam
from gatelab.tasks.trace import hash_weights

Make = Callable[..., Any]


@pytest.fixture
def trained(text_data: Make, make_task: Make, make_trainer: Make) -> Any:
    """A task after two epochs."""
    data = text_data()
    task = make_task(data)
    make_trainer().fit(task, datamodule=data)
    return task


def evaluate(task: Any, data: Any, trainer: pl.Trainer, split: str = "val") -> dict[str, float]:
    """Return the metrics of one split."""
    (trainer.validate if split == "val" else trainer.test)(task, datamodule=data, verbose=False)
    figures: dict[str, float] = task.results[split]
    return figures


@pytest.fixture(params=["linear", "adaptive softmax", "averaged"])
def scored(
    request: pytest.FixtureRequest, text_data: Make, make_task: Make, make_trainer: Make, tmp_path: Path
) -> Any:
    """A task as its best checkpoint holds it, with either head; the averaged weights are not those of any step."""
    data, averaged = text_data(), request.param == "averaged"
    net = {"cutoffs": [4], "tied": False} if request.param == "adaptive softmax" else {}
    task, checkpoints = make_task(data, net=net), Checkpoints(str(tmp_path))
    averages = [ExponentialAveraging(0.9)] if averaged else []
    make_trainer(callbacks=[*averages, checkpoints]).fit(task, datamodule=data)
    last = hash_weights(task.net)
    task.load_state_dict(load_checkpoint(tmp_path / "best.ckpt")["state_dict"])
    assert (hash_weights(task.net) != last) == averaged
    return task


@pytest.mark.parametrize(("batch_size", "windows"), [(1, (35,)), (10, (1, 7, None))])
@pytest.mark.quick(1, rest="ci")
def test_ppl_does_not_depend_on_window_length_or_batch_size(
    batch_size: int, windows: tuple[int | None, ...], scored: Any, text_data: Make, make_trainer: Make
) -> None:
    whole = evaluate(scored, text_data(eval_window=None, eval_batch_size=1), make_trainer())
    assert whole["tokens"] == 647
    for window in windows:
        data = text_data(eval_window=window, eval_batch_size=batch_size)
        figures = evaluate(scored, data, make_trainer())
        assert figures["tokens"] == 647
        assert figures["ppl"] == pytest.approx(whole["ppl"], rel=1e-6)
        assert ("stitch" in figures) == (batch_size > 1)


def test_ppl_equals_a_plain_pass_over_the_text(trained: Any, text_data: Make, make_trainer: Make) -> None:
    data = text_data()
    tokens = data.tokens["test"]
    inputs = torch.cat([torch.tensor([data.spec.seed_token]), tokens[:-1].long()])
    with torch.no_grad():
        logits, _ = trained.net.eval()(inputs[:, None])
    expected = F.cross_entropy(logits[:, 0].double(), tokens.long())
    figures = evaluate(trained, data, make_trainer(), "test")
    assert figures["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert figures["ppl"] == pytest.approx(math.exp(float(expected)), rel=1e-6)


def test_streams_without_burn_in_are_noticed(trained: Any, text_data: Make, make_trainer: Make) -> None:
    with pytest.warns(UserWarning, match="burn_in"):
        figures = evaluate(trained, text_data(burn_in=1), make_trainer())
    assert figures["stitch"] > 1e-3


def test_a_limited_evaluation_has_no_certificate(trained: Any, text_data: Make, make_trainer: Make) -> None:
    assert "stitch" not in evaluate(trained, text_data(), make_trainer(limit_val_batches=3))


def window(steps: int = 5, streams: int = 3, reset: bool = True) -> TokenBatch:
    """A random window."""
    tokens = torch.randint(0, 11, (steps + 1, streams), generator=torch.Generator().manual_seed(1))
    return TokenBatch(tokens[:-1], tokens[1:], torch.full((streams,), reset))


def test_the_reported_loss_has_no_label_smoothing(text_data: Make, make_task: Make) -> None:
    data, batch = text_data(), window()
    plain, smooth = make_task(data, dropout=0.0), make_task(data, dropout=0.0, label_smoothing=0.2)
    objective, nll, count = plain.train_loss(batch)
    smoothed, same_nll, same_count = smooth.train_loss(batch)
    assert torch.equal(nll, same_nll)
    assert count == same_count == 15
    torch.testing.assert_close(objective, nll / count)
    logits = smooth.net(batch.inputs)[0].flatten(0, 1)
    torch.testing.assert_close(
        smoothed, F.cross_entropy(logits, batch.targets.flatten(), label_smoothing=0.2)
    )


def test_activation_regularisers_are_their_definitions(text_data: Make, make_task: Make) -> None:
    data, batch = text_data(), window()
    options = {"activation_regularization": 2.0, "temporal_regularization": 3.0}
    plain, task = make_task(data, dropout=0.0), make_task(data, dropout=0.0, **options)
    y, _ = plain.net.core(plain.net.embedding(batch.inputs))
    expected = plain.train_loss(batch)[0] + 2 * y.square().mean() + 3 * (y[1:] - y[:-1]).square().mean()
    torch.testing.assert_close(task.train_loss(batch)[0], expected)
    single = TokenBatch(batch.inputs[:1], batch.targets[:1], batch.reset)
    assert bool(task.train_loss(single)[0].isfinite())


def test_a_window_of_padding_has_loss_zero(text_data: Make, make_task: Make) -> None:
    batch = window()
    task = make_task(text_data())
    objective, nll, count = task.train_loss(batch._replace(targets=torch.full_like(batch.targets, IGNORE)))
    objective.backward()
    assert float(objective.detach()) == float(nll.detach()) == int(count) == 0
    assert all(bool(p.grad.isfinite().all()) for p in task.parameters() if p.grad is not None)


@pytest.mark.parametrize("core", ["gru", "lstm"])
def test_state_is_carried_detached_and_reset_per_stream(core: str, text_data: Make, make_task: Make) -> None:
    data = text_data()
    task = make_task(data, dropout=0.0)
    if core == "lstm":
        net = LanguageModel(11, functools.partial(LSTM, hidden_size=6))
        task = LanguageModelTask(net, spec=data.spec, optimizer=adam)
    batch = window(8)
    halves = [TokenBatch(batch.inputs[i : i + 4], batch.targets[i : i + 4], batch.reset) for i in (0, 4)]
    whole = task.train_loss(batch)[1]
    first = task.train_loss(halves[0])[1]
    second = task.train_loss(halves[1]._replace(reset=torch.zeros(3, dtype=torch.bool)))[1]
    torch.testing.assert_close(first + second, whole)
    second.backward()
    # stream 1 starts anew: it sees what it would see alone, the others go on
    task.train_loss(halves[0])
    mixed = torch.tensor([False, True, False])
    _, after = task.net(halves[0].inputs)
    nll = task.train_loss(halves[1]._replace(reset=mixed))[1]
    expected = torch.zeros(())
    for stream in range(3):
        state = None if mixed[stream] else pick(after, stream)
        out = task.net(halves[1].inputs[:, [stream]], state)[0].flatten(0, 1)
        expected = expected + F.cross_entropy(out, halves[1].targets[:, stream], reduction="sum")
    torch.testing.assert_close(nll, expected)


def pick(state: Any, stream: int) -> Any:
    """Return one stream's state."""
    if isinstance(state, tuple):
        return tuple(s[:, [stream]].contiguous() for s in state)
    return state[:, [stream]].contiguous()


def test_a_changed_number_of_streams_must_start_anew(text_data: Make, make_task: Make) -> None:
    task = make_task(text_data())
    task.train_loss(window())
    task.train_loss(window(streams=2))
    with pytest.raises(ValueError, match="all of them must be reset"):
        task.train_loss(window(streams=4, reset=False))


def test_bits_are_per_character_whatever_a_token_is(
    text_data: Make, make_task: Make, make_trainer: Make
) -> None:
    data = text_data(level="bpe", vocabulary_size=260, eval_batch_size=1)
    figures = evaluate(make_task(data), data, make_trainer())
    bits = figures["loss"] * figures["tokens"] / math.log(2)
    assert figures["bpc"] == pytest.approx(bits / data.spec.characters["valid"], rel=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": 1.0},
        {"activation_regularization": -1.0},
        {"temporal_regularization": -1.0},
        {"mode": "low"},
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], text_data: Make, make_task: Make) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        make_task(text_data(), **options)


def test_hparams_that_are_not_plain_are_refused(text_data: Make, make_task: Make) -> None:
    with pytest.raises(TypeError, match=r"hparams\['net'\]\['seed'\] is a builtins.object"):
        make_task(text_data(), hparams={"net": {"seed": object()}})

"""The best run forecasts or writes a little, from its checkpoint; damaged ones are said and do no harm."""

import pytest

from gatelab.report.figures import draw_curves, draw_series, samples
from gatelab.report.gather import gather
from gatelab.run.train import train
from gatelab.study.analysis.leaderboard import leaderboard
from gatelab.tasks.series.forecast import SAMPLE_WINDOWS
from gatelab.tasks.text.language_model import SAMPLE_TOKENS

FEW = ["trainer.max_epochs=1", "trainer.max_steps=2", "model.hidden_size=8", "trainer.limit_val_batches=1"]


def sampled(experiment, place):
    run = train([f"experiment={experiment}", *FEW, "callbacks=none", "test=false", f"paths.root={place}"])
    return run["run_dir"], samples(leaderboard(gather([run["run_dir"]])[0][0].state))


def test_a_forecaster_is_drawn_beside_the_truth(tmp_path):
    _, (_, _, (found, errors, worst)) = sampled("quickstart_series", tmp_path)
    figure = draw_series(found)
    names = [trace.name for trace in figure.data if trace.name.startswith("forecast")]
    assert names == [f"forecast {number}" for number in range(1, SAMPLE_WINDOWS + 1)]
    assert all(len(trace.y) == 24 for trace in figure.data if trace.name in names)
    curves = {trace.name: trace.y for trace in draw_curves(errors).data}
    assert list(curves) == ["forecaster", "seasonal naive", "linear"]
    assert all(len(y) == 24 and min(y) > 0 for y in curves.values())
    own = [float(row[1]) for row in worst.rows]
    assert len(own) == 4
    assert own == sorted(own, reverse=True)


def test_a_language_model_writes_and_a_damaged_checkpoint_is_said(tmp_path):
    run, (_, _, (found,)) = sampled("quickstart", tmp_path)
    assert len(found.text) == SAMPLE_TOKENS
    for name in ("best", "last"):
        (tmp_path / run / "checkpoints" / f"{name}.ckpt").write_bytes(b"half")
    note, _, again = samples(leaderboard(gather([run])[0][0].state))
    assert note.startswith("No sample: ")
    assert again == ()


@pytest.mark.parametrize("rows", [[]])
def test_without_a_finished_trial_there_is_none(rows):
    assert samples(rows)[1:] == (None, ())

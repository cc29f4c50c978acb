"""A metric that the data do not have is refused by `check` as by `train`: to rank epochs, or in a callback."""

import numpy as np
import pytest

from gatelab.run import RequestError
from gatelab.run.config import check, compose
from gatelab.run.config.dry_build import refusal
from gatelab.run.train import train

SMALL = ["model.hidden_size=2", "trainer.max_steps=1", "callbacks.progress=null", "test=false", "threads=1"]


def alternating(tmp_path, *more):
    path = tmp_path / "t.csv"
    path.write_text("load\n" + "\n".join(map(str, np.arange(200) % 2)))
    return ["data=table", f"data.path={path}", "data.season=2", "data.lookback=4", "data.horizon=2", *more]


def text(tmp_path, level):
    path = tmp_path / "t.txt"
    path.write_text("a b c d\n" * 400 + "e f g h\n" * 60)
    return ["data=text", f"data.path={path}", f"data.level={level}", "data.batch_size=2", "data.window=8"]


CASES = {
    "no MASE": (alternating, (), "val/mase", "take val/mae"),
    "no SQL": (alternating, ("task.net.output=quantiles",), "val/sql", "take val/mae"),
    "no MSIS": (alternating, ("task.net.output=gaussian",), "val/msis", "take val/mae"),
    "bytes": (text, ("byte",), "val/bpc", "it is val/bpb"),
    "unknown words": (text, ("word",), "val/bpc", "take val/loss, or data.level=bpe"),
}


@pytest.mark.parametrize(
    ("case", "key"),
    [
        *((case, "task.monitor") for case in CASES),
        *(("bytes", f"callbacks.{name}.monitor") for name in ("checkpoints", "stop")),
    ],
)
@pytest.mark.quick(3)
@pytest.mark.quick(1, rest="ci")
def test_check_refuses_the_metric_that_train_refuses(case, key, tmp_path):
    make, options, metric, said = CASES[case]
    overrides = [*make(tmp_path, *options), *SMALL, f"paths.root={tmp_path}"]
    if "stop" in key:
        stop = "pytorch_lightning.callbacks.EarlyStopping"
        overrides.append(f"+callbacks.stop={{_target_: {stop}, monitor: {metric}}}")
    else:
        overrides.append(f"{key}={metric}")
    config = check(compose(overrides))
    assert refusal(config).startswith(f"{key}: {metric}: ")
    assert said in refusal(config)
    assert refusal(config, read=False) is None
    with pytest.raises(RequestError, match=f"monitor={metric}: ") as error:
        train(overrides)
    assert said in str(error.value)


def test_a_metric_that_the_data_have_is_accepted(tmp_path):
    assert refusal(check(compose([*text(tmp_path, "char"), "task.monitor=val/bpc"]))) is None
    table = [*alternating(tmp_path), "data.season=3", "task.monitor=val/mase"]
    assert refusal(check(compose(table))) is None

"""A compiled network trains to the same weights under the same names, and goes on from a checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from gatelab import GRU
from gatelab.tasks import Checkpoints, GateStatistics, load_checkpoint
from gatelab.tasks.callbacks import Compile, ExponentialAveraging
from gatelab.tasks.callbacks.compiled import why_not

from ..kill_tools import FailBefore

Make = Callable[..., Any]
# what PyTorch says of its own tracing
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute", "ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def forget_graphs() -> None:
    """PyTorch stops compiling a function after eight graphs, those of other tests included."""
    torch.compiler.reset()


@pytest.fixture
def run(make_task: Make, make_trainer: Make, tmp_path: Path) -> Make:
    """Train a few steps and return the last checkpoint."""

    def make(folder: str, data: Any, *more: pl.Callback, go_on: bool = False, **options: Any) -> Any:
        last = tmp_path / folder / "last.ckpt"
        callbacks = [Checkpoints(str(last.parent), every_n_steps=2), *more]
        limits = {"max_epochs": 1, "limit_train_batches": 5, "limit_val_batches": 2}
        trainer, task = make_trainer(callbacks=callbacks, **limits), make_task(data, **options)
        trainer.fit(task, datamodule=data, ckpt_path=last if go_on else None)
        return load_checkpoint(last)

    return make


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for part in {"state_dict", "current_model_state"} & one.keys():
        assert list(one[part]) == list(other[part])
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])


@pytest.mark.slow
def test_a_compiled_run_goes_on_from_a_checkpoint_with_the_bits_of_a_plain_one(
    run: Make, text_data: Make
) -> None:
    # a hook that stays on the core, and one that comes and goes, are seen by compiled code too
    options = {"temporal_regularization": 1.0}
    whole = run("plain", text_data(), ExponentialAveraging(), **options)
    gates = GateStatistics(every_n_steps=1)
    with pytest.raises(RuntimeError, match="killed"):
        run(
            "compiled", text_data(), ExponentialAveraging(), Compile("eager"), gates, FailBefore(4), **options
        )
    gone_on = run("compiled", text_data(), ExponentialAveraging(), Compile("eager"), go_on=True, **options)
    assert_same(whole, gone_on)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("text_data", "eager"),
        pytest.param("text_data", "aot_eager", marks=pytest.mark.slow),
        pytest.param("series_data", "eager", marks=pytest.mark.slow),
        pytest.param("series_data", "aot_eager", marks=pytest.mark.slow),
    ],
)
def test_a_compiled_network_has_the_same_bits_under_the_same_names(
    kind: str, how: Any, run: Make, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(kind)
    assert_same(run("plain", data()), run("compiled", data(), Compile(how)))


def test_a_look_at_the_gates_is_not_compiled_and_makes_no_new_graph() -> None:
    graphs, core, looks = [], GRU(3, 4), GateStatistics()

    def count(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    core.compile(backend=count)
    for _ in range(3):
        core(torch.randn(5, 2, 3), torch.randn(1, 2, 4))
        looks._figures.clear()
        looks._listen(core)
        core(torch.randn(5, 2, 3), torch.randn(1, 2, 4))
        assert "gates/layer0/update_mean" in looks._figures
    assert len(graphs) == 1


def test_what_cannot_be_compiled_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "which a CPU has none of; take trainer=gpu" in str(why_not("cudagraphs", False, 1))
    assert "accumulate_grad_batches=1" in str(why_not("reduce-overhead", True, 2))
    assert why_not("cudagraphs", True, 1) is None
    assert why_not("eager", False, 4) is None
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    assert "needs a C++ compiler, and there is no no-such-compiler" in str(why_not("default", False, 1))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install triton" in str(why_not("default", True, 1))


def test_the_run_and_its_check_refuse_before_the_first_step(
    text_data: Make, make_task: Make, make_trainer: Make
) -> None:
    from gatelab.run.config import check, compose
    from gatelab.run.config.dry_build import refusal

    assert "replays CUDA graphs" in str(refusal(check(compose(["compile=cudagraphs"])), read=False))
    assert refusal(check(compose(["compile=eager"])), read=False) is None
    trainer, data = make_trainer(callbacks=[Compile("cudagraphs")]), text_data()
    with pytest.raises(ValueError, match="replays CUDA graphs"):
        trainer.fit(make_task(data), datamodule=data)
    assert trainer.global_step == 0

"""A unit is told by what it follows, its ablation costs what it is used for, and a wrong request is refused."""

import functools
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gatelab.core import GRU, LSTM, RNN, LanguageModel, MinGRU
from gatelab.tasks.explanation.measure import explain
from gatelab.tasks.explanation.reading import (
    Part,
    Reading,
    cropped,
    forgetful,
    listening,
    powers,
    with_context,
)
from gatelab.tasks.explanation.units import autocorrelation_time, share_told
from gatelab.tasks.series.reading import calendar
from gatelab.tasks.text.reading import text_probes

T, R, UNIT = 60, 4, 2
READ = torch.rand(T, R, 1, generator=torch.Generator().manual_seed(1)).round()  # 0 or 1


def counter() -> GRU:
    """Five units at random, but unit 2, which adds up a tenth of what is read, and nothing reads it but a head."""
    torch.manual_seed(0)
    core = GRU(1, 5).eval()
    with torch.no_grad():
        core.weight_hh_l0[:, UNIT] = 0
        for name, parameter in core.named_parameters():
            for gate in range(3):
                parameter[gate * 5 + UNIT] = 0
            if name == "bias_ih_l0":  # z: keeps all but a little; n: tanh of 5 times the input
                parameter[5 + UNIT] = 4.0
            if name == "weight_ih_l0":
                parameter[10 + UNIT] = 5.0
    return core


def reading(core: Any, **more: Any) -> Reading:
    """The head says the unit; the loss is its squared distance to itself as it was, so it is 0 and only rises."""
    with torch.no_grad():
        truth = core(READ)[0][..., UNIT]

    def losses() -> torch.Tensor:
        return (core(READ)[0][..., UNIT] - truth).square().flatten()

    step = np.tile(np.arange(T, dtype=float), (R, 1))
    probes = {"step": step, "parity": step % 2, "flat": np.zeros((R, T)), **more.pop("probes", {})}
    steps = [[str(t) for t in range(T)]] * 2
    part = Part(
        "core", core, steps, "series", probes, READ[..., 0].T.numpy(), {"read": READ[:, :2, 0].T.numpy()}
    )
    return Reading("by hand.", "squared", losses, [part], **more)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return explain(reading(counter()), units=["layer0:4"])


def test_the_unit_that_counts_is_found_and_its_ablation_costs_all_that_it_is_used_for(found: Any) -> None:
    (unit,) = [one for one in found["units"] if one["why"] == "follows most: step"]
    assert (unit["unit"], unit["probe"]) == (f"layer0:{UNIT}", "step")
    assert unit["told"] > 0.9
    assert unit["beyond"] > 0.9  # of what is read it holds all, not the last
    assert unit["ablated"]["rise"] == pytest.approx(unit["sd"] ** 2, rel=0.01)
    assert unit["curve"]["mean"] == sorted(unit["curve"]["mean"]) or unit["curve"]["value"] == []
    (other,) = [one for one in found["units"] if one["why"] == "asked for"]
    assert other["unit"] == "layer0:4"
    assert other["ablated"]["rise"] == 0


def test_the_slow_unit_has_the_time_constant_of_its_gate(found: Any) -> None:
    constants = found["parts"][0]["layers"][0]["time_constants"]
    keep = torch.sigmoid(torch.tensor(4.0))
    assert constants[UNIT] == pytest.approx(float(-1 / keep.log()), rel=1e-4)
    assert max(constants) == constants[UNIT]


def test_what_does_not_vary_is_no_probe_and_asking_for_it_is_refused(found: Any) -> None:
    assert found["parts"][0]["probes"] == ["parity", "step"]
    with pytest.raises(ValueError, match="'flat': what was read has no such structure; it has step, parity"):
        explain(reading(counter()), probes=["flat"])
    with pytest.raises(
        ValueError, match="'hour': there is none of that name here; there are: flat, parity, step"
    ):
        explain(reading(counter()), probes=["hour"])


@pytest.mark.parametrize("unit", ["layer1:0", "layer0:5", "layer0", "layer0:x", "decoder/layer0:1"])
def test_a_unit_that_is_not_there_is_refused(unit: str) -> None:
    with pytest.raises(ValueError, match="layer0"):
        explain(reading(counter()), units=[unit])


def test_a_core_that_is_not_called_is_named() -> None:
    with pytest.raises(ValueError, match="did not call its core"):
        explain(Reading("", "", lambda: torch.zeros(3), [Part("core", counter(), [], "text")]))


def test_sequences_of_different_lengths_have_the_states_of_each_alone() -> None:
    core, x = GRU(1, 3, bidirectional=True).eval(), torch.randn(6, 2, 1)
    lengths = torch.tensor([6, 4])
    probes = {"step": np.where(np.arange(6) < lengths.numpy()[:, None], np.arange(6.0), np.nan)}
    part = Part("core", core, [["a"] * 6, ["b"] * 4], "text", probes)
    found = explain(
        Reading("", "", lambda: core(x, lengths=lengths)[0].sum(-1).flatten(), [part]),
        units=["layer0:0", "layer0_reverse:1"],
    )
    y = core(x, lengths=lengths)[0].detach()
    forward, reverse = found["units"][:2]
    assert forward["states"][1] == pytest.approx(y[:, 1, 0].tolist(), abs=1e-4)
    assert reverse["states"][1] == pytest.approx(y[:, 1, 3 + 1].tolist(), abs=1e-4)
    mean = torch.cat((y[:, 0, 4], y[:4, 1, 4])).mean()
    assert reverse["mean"] == pytest.approx(float(mean), abs=1e-5)


def test_the_share_that_a_probe_tells_is_that_of_the_variance() -> None:
    draw = np.random.default_rng(0)
    probe = draw.integers(0, 10, 4000).astype(float)
    unrelated = draw.normal(size=(4000, 2))
    states = torch.from_numpy(np.stack((probe, probe + 3 * unrelated[:, 0], unrelated[:, 1]), axis=1))
    told = share_told(states, np.where(draw.random(4000) < 0.1, np.nan, probe))
    variance = 8.25
    assert told.tolist() == pytest.approx([1, variance / (variance + 9), 0], abs=0.03)
    assert share_told(states, np.full(4000, np.nan)).tolist() == [0, 0, 0]


def test_the_autocorrelation_time_is_that_of_the_process() -> None:
    keep, x = 0.9, [torch.randn(200, 1)]
    draw = torch.Generator().manual_seed(0)
    for _ in range(4000):
        x.append(keep * x[-1] + torch.randn(200, 1, generator=draw))
    series = torch.stack(x[500:])
    assert autocorrelation_time(series) == pytest.approx(-1 / np.log(keep), rel=0.05)
    assert np.isnan(autocorrelation_time(torch.ones(10, 2, 1)))


def test_the_probes_of_a_text_are_what_one_sees() -> None:
    text = 'x\nHe said "no (not)".\n\nA bc'
    found = {name: rows[0] for name, rows in text_probes([list(text)]).items()}
    at = {name: dict(zip(range(len(text)), values, strict=True)) for name, values in found.items()}
    assert np.isnan(found["position in line"][0])
    assert [at["position in line"][n] for n in (1, 2, 9)] == [0, 1, 8]
    assert [at["inside quotes"][text.index(c)] for c in "Hn"] == [0, 1]
    assert [at["bracket depth"][text.index(c)] for c in "no(t)A"] == [0, 0, 1, 1, 0, 0]
    assert [at["position in word"][n] for n in (4, 5, 6)] == [0, 1, 2]
    assert at["line of the paragraph"][len(text) - 1] == 0
    assert at["position in sentence"][len(text) - 1] == 4


def test_the_calendar_of_a_window_is_that_of_its_times() -> None:
    times = np.datetime_as_string(np.datetime64("2024-03-31T22:00") + np.arange(8) * np.timedelta64(1, "h"))
    found = calendar([times.tolist()], 2, 3)
    assert found["hour of the day"].tolist() == [[23, 1, 3]]
    assert found["day of the week"].tolist() == [[6, 0, 0]]  # a Sunday, then a Monday
    assert found["month"].tolist() == [[3, 4, 4]]
    assert calendar([None], 2, 3) == {}


def test_only_the_first_call_is_heard_and_only_calls_from_no_state_are_cropped() -> None:
    core, x = GRU(2, 3), torch.randn(7, 1, 2)
    with listening(core) as calls, cropped(core, 3):
        y, state = core(x)
        core(x, state)
    assert len(calls) == 1
    assert torch.equal(calls[0].x, x)
    assert torch.equal(y, core(x[-3:])[0])


def test_a_forgetful_core_knows_its_own_step_and_those_right_before() -> None:
    core, x, lengths = GRU(2, 3, 2), torch.randn(7, 2, 2), torch.tensor([7, 4])
    whole = core(x, lengths=lengths)[0]
    for k in (0, 2, 6, 9):
        with forgetful(core, k):
            y = core(x, lengths=lengths)[0]
        for t in range(7):
            own = core(x[t - k : t + 1])[0][-1] if t >= k else whole[t]
            torch.testing.assert_close(y[t, 0], own[0])
            torch.testing.assert_close(y[t, 1], own[1] if t < 4 else torch.zeros(3))
    assert with_context(GRU(2, 3, bidirectional=True), lambda: x) is None


def test_contexts_are_powers_of_two_up_to_the_last() -> None:
    assert powers(9) == [0, 1, 2, 4, 8, 9]
    assert powers(8) == [0, 1, 2, 4, 8]
    assert powers(0) == [0]


class Run(NamedTuple):
    data: Any
    tokenizer: Any = None
    reader: Any = None


def test_a_language_model_with_all_context_has_the_loss_that_it_has(text_data: Any, make_task: Any) -> None:
    data = text_data()
    task = make_task(data).eval()
    found = task.reading(Run(data, data.tokenizer))
    some, whole = found.carried(found.contexts[-1])
    assert found.contexts[-1] >= 16
    torch.testing.assert_close(some, whole, rtol=0, atol=1e-2)
    none, known = found.carried(0)
    assert not torch.allclose(none, known, atol=1e-2)
    shown = explain(found, ablations=1)
    assert shown["attribution"]["completeness_error"] <= 0.01
    assert shown["loss"] == pytest.approx(float(found.losses().detach().double().mean()))
    assert shown["context"]["k"] == found.contexts


def test_a_forecaster_of_all_steps_has_the_loss_that_it_has(series_data: Any, make_task: Any) -> None:
    data = series_data()
    task = make_task(data).eval()
    found = task.reading(Run(data))
    some, whole = found.carried(found.contexts[-1])
    assert torch.equal(some, whole)
    with torch.no_grad():
        batch = next(iter(data.dataloader("valid")))
        known = F.mse_loss(task.net(batch.past), batch.future, reduction="none").mean(dim=(1, 2))
        torch.testing.assert_close(task.window_losses(batch), known)
    assert {"hour of the day", "day of the week"} <= set(found.parts[0].probes)
    assert explain(found, ablations=1)["attribution"]["completeness_error"] <= 0.01


def test_symbols_that_stand_for_no_text_are_refused(text_data: Any, make_task: Any) -> None:
    data = text_data()
    with pytest.raises(ValueError, match="symbols"):
        make_task(data).reading(Run(data))


def test_dropped_weights_are_explained_as_evaluation_sees_them() -> None:
    torch.manual_seed(0)
    make = functools.partial(GRU, hidden_size=4, num_layers=2)
    net = LanguageModel(5, make, weight_drop=0.5, hidden_dropout=0.2).eval()
    tokens = torch.randint(5, (20, 3))
    before = net(tokens)[0]
    part = Part("core", net.core, [["a"] * 20], "text", {"step": np.tile(np.arange(20.0), (3, 1))})
    losses = lambda: net(tokens)[0].square().sum(-1).flatten()  # noqa: E731
    found = explain(Reading("", "", losses, [part]), units=["layer1:3"])
    assert len(found["parts"][0]["cells"]) == 2
    assert torch.equal(net(tokens)[0], before)


@pytest.mark.parametrize("kind", [RNN, LSTM, MinGRU])
def test_every_cell_is_explained(kind: Any) -> None:
    torch.manual_seed(0)
    core, x = kind(2, 3).eval(), torch.randn(12, 2, 2)
    part = Part("core", core, [["a"] * 12], "text", {"step": np.tile(np.arange(12.0), (2, 1))})
    found = explain(Reading("", "", lambda: core(x)[0].sum(-1).flatten(), [part]), ablations=1)
    (layer,), (cell,) = found["parts"][0]["layers"], found["parts"][0]["cells"]
    assert (layer["time_constants"] is None) == (kind is RNN)
    assert cell["state"] == (6 if kind is LSTM else 3)
    assert found["units"][0]["ablated"]["rise"] != 0


def test_a_core_of_another_kind_is_refused() -> None:
    core = torch.nn.Linear(2, 2)
    with pytest.raises(TypeError, match="Linear is no recurrent layer"):
        explain(
            Reading("", "", lambda: core(torch.ones(2, 1, 2)).flatten(), [Part("core", core, [], "text")])
        )

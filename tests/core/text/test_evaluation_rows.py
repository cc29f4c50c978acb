"""A neural cache, dynamic evaluation, a temperature and MC dropout are what their equations say, token by token."""

import copy
import functools
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gatelab.core import GRU, LSTM, RNN, LanguageModel, TorchGRU
from gatelab.core.text.dynamic_evaluation import dynamic_nll, gradient_scale
from gatelab.core.text.neural_cache import NeuralCache, mixed
from gatelab.core.text.stream_scoring import monte_carlo_nll, tempered_nll

V, N = 13, 24


def model(core: Any = GRU, *, sizes: Any = None, **options: Any) -> Any:
    """A small language model in evaluation mode, with weights that say something."""
    torch.manual_seed(0)
    made = LanguageModel(
        V, functools.partial(core, hidden_size=6), embedding_size=5, layer_sizes=sizes, **options
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2.0)
    return made.eval()


MODELS = {
    "GRU": {"weight_drop": 0.3},
    "LSTM of two sizes": {"core": LSTM, "sizes": [6, 4], "locked_dropout": True, "dropout": 0.2},
    "RNN, adaptive softmax": {"core": RNN, "cutoffs": [6], "tied": False},
    "nn.GRU": {"core": TorchGRU, "dropout": 0.2},
}


@pytest.fixture(params=list(MODELS))
def net(request: pytest.FixtureRequest) -> Any:
    """One of several models."""
    return model(**MODELS[request.param])


def text() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of one stream."""
    tokens = torch.randint(V, (N + 1,), generator=torch.Generator().manual_seed(1))
    return tokens[:-1], tokens[1:]


def cached_by_hand(h: torch.Tensor, targets: torch.Tensor, window: int, theta: float) -> torch.Tensor:
    """The cache's distribution [N, V], by a loop over steps and what they remember; zero where it is empty."""
    states, tokens = h.double().tolist(), targets.tolist()
    found = [[0.0] * V for _ in states]
    for t, here in enumerate(states):
        for i in range(max(0, t - window), t):
            found[t][tokens[i]] += math.exp(theta * sum(a * b for a, b in zip(here, states[i], strict=True)))
        found[t] = [mass / (sum(found[t]) or 1.0) for mass in found[t]]
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("chunk", [1, 7])
def test_the_cache_is_a_loop_over_what_it_remembers_whatever_the_chunks(net: Any, chunk: int) -> None:
    inputs, targets = text()
    points = [(5, 0.3), (1, 2.0), (100, 0.0), (5, 1.0)]
    with torch.no_grad():
        h = net.features(inputs[:, None])[0][:, 0]
        own = F.log_softmax(net.head(h), 1)
    memory = NeuralCache(100)
    parts = [memory.score(x, t, points) for x, t in zip(h.split(chunk), targets.split(chunk), strict=True)]
    for (window, theta), log_cache in zip(points, torch.cat(parts, 1), strict=True):
        by_hand = cached_by_hand(h, targets, window, theta)
        torch.testing.assert_close(by_hand[1:].sum(1), torch.ones(N - 1, dtype=torch.float64))
        both = 0.8 * own.exp().double() + 0.2 * by_hand
        both[0] = own[0].exp().double()  # nothing is remembered yet
        expected = both.gather(1, targets[:, None])[:, 0].log()
        got = mixed(own.gather(1, targets[:, None])[:, 0].double(), log_cache.double(), 0.2)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(got, own.gather(1, targets[:, None])[:, 0].double())


def test_a_cache_never_sees_the_token_that_it_predicts() -> None:
    h, targets = torch.zeros(3, 2), torch.tensor([4, 7, 7])
    found = NeuralCache(10).score(h, targets, [(10, 1.0)])[0]
    assert math.isnan(found[0])
    assert found[1] == -math.inf  # 4 is all that was read
    assert found[2].exp() == pytest.approx(0.5)


def updated_by_hand(net: Any, scale: Any, segment: int, rate: float, decay: float, epsilon: float) -> Any:
    """Score and update a copy, weight by weight as the paper writes it."""
    inputs, targets = text()
    moving = copy.deepcopy(net)
    trained = {name: p.detach().clone() for name, p in moving.named_parameters()}
    mean = None
    if scale is not None:
        mean = torch.cat([s.flatten() for s in scale]).double().mean().float()
    state, found = None, []
    for start in range(0, N, segment):
        part = slice(start, start + segment)
        x, state = moving.features(inputs[part, None], state)
        state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        nll = F.cross_entropy(moving.head(x[:, 0]), targets[part], reduction="none")
        found.append(nll.detach())
        moving.zero_grad()
        nll.mean().backward()
        with torch.no_grad():
            for index, (name, p) in enumerate(moving.named_parameters()):
                g = torch.zeros_like(p) if p.grad is None else p.grad
                if scale is None:
                    p += decay * (trained[name] - p) - rate * g
                else:
                    r = torch.minimum(scale[index] / mean, torch.tensor(1 / decay))
                    p += decay * r * (trained[name] - p) - rate * g / (scale[index] + epsilon * mean)
    return torch.cat(found)


@pytest.mark.parametrize(("rule", "decay", "segment"), [("sgd", 0.05, 7), ("rms", 0.05, 5), ("rms", 0.9, 7)])
def test_dynamic_evaluation_is_its_update_and_leaves_the_weights(
    net: Any, rule: str, decay: float, segment: int
) -> None:
    inputs, targets = text()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    scale = None
    if rule == "rms":
        reset = torch.tensor([True, True])
        window = torch.randint(V, (9, 2), generator=torch.Generator().manual_seed(2))
        scale = gradient_scale(net, [(window[:-1], window[1:], reset), (window[:-1], window[1:], ~reset)])
        assert all(bool((s >= 0).all()) for s in scale)
    options = {"segment": segment, "rate": 0.2 if rule == "sgd" else 0.01, "decay": decay, "epsilon": 0.5}
    got = dynamic_nll(net, inputs, targets, scale=scale, **options)
    torch.testing.assert_close(got, updated_by_hand(net, scale, **options), rtol=2e-4, atol=2e-5)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert all(p.grad is None for p in net.parameters())
    still = dynamic_nll(net, inputs, targets, segment=segment, rate=0.0, decay=0.0)
    assert not torch.allclose(got, still, atol=1e-3)


def test_the_gradients_scale_is_a_root_mean_square(net: Any) -> None:
    inputs, targets = (part[:, None] for part in text())
    windows = [
        (inputs[:9], targets[:9], torch.tensor([True])),
        (inputs[9:], targets[9:], torch.tensor([False])),
    ]
    squares, state = [0.0] * len(list(net.parameters())), None
    for x, y, _ in windows:
        features, state = net.features(x, state)
        state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        net.zero_grad()
        F.cross_entropy(net.head(features[:, 0]), y[:, 0]).backward()
        squares = [
            s + (0 if p.grad is None else p.grad**2) for s, p in zip(squares, net.parameters(), strict=True)
        ]
    net.zero_grad()
    for got, square in zip(gradient_scale(net, windows), squares, strict=True):
        torch.testing.assert_close(
            got, (torch.as_tensor(square) / 2).sqrt().expand_as(got), rtol=1e-4, atol=1e-7
        )


def test_weights_that_diverge_score_infinity_and_come_back(net: Any) -> None:
    before = [p.detach().clone() for p in net.parameters()]
    found = dynamic_nll(net, *text(), segment=2, rate=1e30, decay=0.0)
    assert found[:2].isfinite().all()
    assert found[-1] == math.inf
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_a_temperature_divides_the_logits(net: Any) -> None:
    inputs, targets = text()
    with torch.no_grad():
        x = net.features(inputs[:, None])[0][:, 0]
        found = tempered_nll(net.head, x, targets, [0.5, 1.0, 2.0])
        p = net.head(x).softmax(1).double()
    for t, nll in zip((0.5, 1.0, 2.0), found, strict=True):
        sharpened = p ** (1 / t)
        sharpened /= sharpened.sum(1, keepdim=True)
        expected = -sharpened.gather(1, targets[:, None])[:, 0].log().float()
        torch.testing.assert_close(nll, expected, rtol=1e-4, atol=1e-5)


def test_mc_dropout_is_the_mean_of_probabilities_with_one_mask_a_window() -> None:
    net = model(weight_drop=0.5, dropout=0.4, locked_dropout=True, embedding_dropout=0.2)
    inputs, targets = text()
    random = torch.get_rng_state()
    got = monte_carlo_nll(net, inputs, targets, passes=3, window=16, seed=5)
    assert torch.equal(torch.get_rng_state(), random)
    assert not net.training
    total = torch.zeros(N, dtype=torch.float64)
    with torch.random.fork_rng([]), torch.no_grad():
        torch.manual_seed(5)
        net.train()
        for _ in range(3):
            state = None
            for start in range(0, N, 16):
                logits, state = net(inputs[start : start + 16, None], state)
                chosen = targets[start : start + 16, None]
                total[start : start + 16] += logits[:, 0].double().softmax(1).gather(1, chosen)[:, 0]
    torch.testing.assert_close(got, -(total / 3).log(), rtol=1e-5, atol=1e-5)
    single = [monte_carlo_nll(net.eval(), inputs, targets, passes=1, window=16, seed=s) for s in (5, 6)]
    assert not torch.equal(*single)


def test_without_dropout_every_pass_is_the_static_one() -> None:
    net, (inputs, targets) = model(), text()
    static = F.cross_entropy(net(inputs[:, None])[0][:, 0].detach(), targets, reduction="none")
    got = monte_carlo_nll(net, inputs, targets, passes=2, window=9)
    torch.testing.assert_close(got.float(), static, rtol=1e-5, atol=1e-5)


def test_a_module_that_only_returns_logits_is_a_head() -> None:
    head = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, V))
    found = tempered_nll(head, torch.ones(2, 4), torch.tensor([1, 2]), [1.0])
    assert found.shape == (1, 2)

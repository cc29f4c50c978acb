import pytest
import torch

from gatelab.tasks.resume import seed_step, step_seed


def test_step_seeds_are_distinct_and_fit_a_generator() -> None:
    seeds = {step_seed(s, r, i) for s in range(10) for r in range(10) for i in range(100)}
    assert len(seeds) == 10_000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert step_seed(0, 1, 2) != step_seed(0, 2, 1)


def test_a_seeded_step_draws_the_same_whatever_came_before() -> None:
    draws = []
    for _ in range(2):
        seed_step(3, 0, 17, torch.device("cpu"))
        draws.append(torch.rand(5))
    assert torch.equal(draws[0], draws[1])
    seed_step(3, 0, 18, torch.device("cpu"))
    assert not torch.equal(draws[0], torch.rand(5))


def test_the_generator_of_the_own_gpu_is_seeded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    generators = tuple(torch.Generator() for _ in range(2))  # stand for those of two GPUs
    monkeypatch.setattr(torch.cuda, "default_generators", generators)
    before = generators[0].initial_seed()
    seed_step(3, 1, 17, torch.device("cuda:1"))
    assert [g.initial_seed() for g in generators] == [before, step_seed(3, 1, 17)]
    assert torch.initial_seed() == step_seed(3, 1, 17)

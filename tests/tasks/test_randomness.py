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

"""The loss on a teacher's answers is the one of the paper, written out."""

import math

import torch
from torch.nn import functional as F

from gatelab.core.distillation import soft_loss


def test_it_is_the_divergence_of_softened_distributions_written_out():
    generator = torch.Generator().manual_seed(0)
    v, u = 3 * torch.randn(2, 4, 5, generator=generator)
    for temperature in (1.0, 2.5):
        found = soft_loss(v, u, temperature)
        for row in range(4):
            p, q = ([math.exp(x / temperature) for x in logits[row].double().tolist()] for logits in (v, u))
            expected = sum(
                b / sum(q) * (math.log(b / sum(q)) - math.log(a / sum(p))) for a, b in zip(p, q, strict=True)
            )
            assert math.isclose(float(found[row]), temperature**2 * expected, rel_tol=1e-4, abs_tol=1e-6)


def test_it_is_zero_for_one_that_answers_as_its_teacher_and_cross_entropy_for_a_sure_teacher():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    assert float(soft_loss(logits, logits + 2.0, 3.0).abs().max()) < 1e-5  # logits count up to a constant
    sure = torch.full((3, 5), -60.0).scatter(1, torch.tensor([[0], [4], [2]]), 60.0)
    expected = F.cross_entropy(logits, torch.tensor([0, 4, 2]), reduction="none")
    assert torch.allclose(soft_loss(logits, sure, 1.0), expected)


def test_at_a_high_temperature_the_gradient_is_the_difference_of_logits():
    """Hinton et al. 2015, equation 4: (v - u) / V, for logits of mean zero, whatever T."""
    v, u = torch.randn(2, 1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    v, u = v - v.mean(), u - u.mean()
    v.requires_grad_()
    (gradient,) = torch.autograd.grad(soft_loss(v, u, 1000.0).sum(), v)
    assert torch.allclose(gradient, (v - u) / 6, atol=1e-2)

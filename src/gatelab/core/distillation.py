"""What a network loses that learns from another one's answers beside the truth (Hinton et al. 2015, arXiv:1503.02531).

With the logits u of the teacher, v of the student, and a temperature T:

    q = softmax(u / T),  p = softmax(v / T)
    L = (1 - w) (loss of v on the truth) + w T^2 KL(q || p)

A temperature above 1 shows which of the wrong answers the teacher takes for likelier. The gradient of the second term
shrinks as 1 / T^2, hence the factor (ibid., section 2).
"""

from torch import Tensor
from torch.nn import functional as F


def soft_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(q || p) in nats, [N], of the student's logits [N, V] and the teacher's [N, V]."""
    log_p = F.log_softmax(logits.float() / temperature, dim=-1)
    log_q = F.log_softmax(teacher.float() / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)

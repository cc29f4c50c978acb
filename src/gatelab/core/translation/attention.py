"""Attention of a decoder over the annotations of a source sentence, all target steps in one call.

With the decoder's state s_t and the annotations h_1 ... h_S of a sentence (Luong et al. 2015, arXiv:1508.04025;
Bahdanau et al. 2015, arXiv:1409.0473):

    e_tj = s_t . h_j                     dot
    e_tj = s_t . W h_j                   general
    e_tj = v . tanh(U s_t + W h_j)       additive
    a_t  = softmax over j of e_t         exactly 0 where j is padding
    c_t  = sum over j of a_tj h_j        the context

W h_j does not depend on the step: it is the key of j, computed once a sentence.

Dimensions: B sentences, S source steps, T target steps, H the decoder's state, M an annotation's features.
"""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

Score = Literal["dot", "general", "additive"]


class Memory(NamedTuple):
    """A batch of source sentences as the decoder sees it.

    values: annotations [B, S, M]; keys: [B, S, H]; padding: [B, S] bool, True where a sentence is over.
    """

    values: Tensor
    keys: Tensor
    padding: Tensor

    def of(self, sentences: Tensor) -> "Memory":
        """Return the memory of these sentences [N]."""
        return Memory(*(part.index_select(0, sentences) for part in self))


class Attention(nn.Module):
    """Contexts and weights for the decoder's states over a `Memory`, by one of three scores.

    Raises ValueError on another score, and on "dot" between vectors of different sizes.
    """

    def __init__(self, score: Score, state_size: int, annotation_size: int) -> None:
        super().__init__()
        if score not in get_args(Score):
            raise ValueError(f"attention must be {' or '.join(get_args(Score))}, got {score!r}")
        if score == "dot" and state_size != annotation_size:
            raise ValueError(
                f"attention='dot' multiplies the decoder's {state_size} features with an annotation's "
                f"{annotation_size}: give encoder_size so that they are equal (half of the decoder's hidden size for "
                "a bidirectional encoder), or attention='general'"
            )
        self.score: Score = score
        self.key: nn.Module = nn.Identity()
        if score != "dot":
            self.key = nn.Linear(annotation_size, state_size, bias=score == "additive")
        if score == "additive":
            self.query = nn.Linear(state_size, state_size, bias=False)
            self.energy = nn.Linear(state_size, 1, bias=False)

    def memory(self, annotations: Tensor, padding: Tensor) -> Memory:
        """Return what is kept of annotations [S, B, M]; padding [B, S] bool."""
        values = annotations.transpose(0, 1).contiguous()
        return Memory(values, self.key(values), padding)

    def forward(self, states: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return contexts [T, B, M] and weights [T, B, S] of states [T, B, H]."""
        queries = states.transpose(0, 1)
        if self.score == "additive":
            mixed = torch.tanh(self.query(queries).unsqueeze(2) + memory.keys.unsqueeze(1))
            energies = self.energy(mixed).squeeze(-1)
        else:
            energies = queries @ memory.keys.transpose(1, 2)
        weights = energies.masked_fill(memory.padding.unsqueeze(1), -torch.inf).softmax(-1)
        return (weights @ memory.values).transpose(0, 1), weights.transpose(0, 1)

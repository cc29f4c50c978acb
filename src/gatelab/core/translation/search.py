"""The likeliest translation that a beam finds, all sentences and hypotheses of a step in one call.

A step extends every hypothesis of every sentence and keeps the K likeliest of each sentence. One that ends leaves the
beam, which then has one fewer (Sutskever et al. 2014, arXiv:1409.3215): its score is frozen. In the end hypotheses of
different lengths are compared by

    score = log p / n^a       n tokens, the end included; a the length penalty (Wu et al. 2016, arXiv:1609.08144, with
                              the constant 5 left out); a = 1 is the mean, a = 0 the sum

K = 1 is the likeliest token every time. It is a candidate of every wider beam as well, so that no beam is worse than
greedy by its own score, which pruning alone does not promise: where a beam lost this hypothesis, it is looked for by
itself.

Dimensions: B sentences, K hypotheses, S source steps, T steps so far, V vocabulary; N = K*B as in translator.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gatelab.core.translation.translator import Translator

LONGER, MORE = 2, 10
"""A translation is cut at `LONGER` times the tokens of its source and `MORE`, whatever stands beside it."""
REGROUP = 0.75
"""The batch is regrouped when no more than this share of its sentences is unfinished."""


class Found(NamedTuple):
    """A translation: its tokens without the end, its score as above, and whether it came to its end."""

    tokens: list[int]
    score: float
    ended: bool


@torch.inference_mode()
def search(
    model: Translator,
    source: Tensor,
    lengths: Tensor,
    *,
    end: int,
    width: int = 1,
    length_penalty: float = 1.0,
    never: Sequence[int] = (),
) -> list[Found]:
    """Translate source [S, B], each sentence to its length [B], on the model's device and in the mode that it is in.

    Args:
        end: the token that stands before a translation and ends it.
        width: K.
        length_penalty: a.
        never: tokens that a translation does not hold, such as the unknown one.

    Raises ValueError on a width below 1 or a penalty below 0.
    """
    if width < 1:
        raise ValueError(f"beam must be at least 1, got {width}")
    if not 0 <= length_penalty < float("inf"):
        raise ValueError(f"length_penalty must be at least 0, got {length_penalty}")
    beam = _Beam(model, source, lengths, end, width, length_penalty, never)
    beam.run()
    if beam.lost:
        greedy = _Beam(model, source[:, beam.lost], lengths[beam.lost], end, 1, length_penalty, never)
        greedy.run()
        for sentence, one in zip(beam.lost, greedy.found, strict=True):
            beam.found[sentence] = max(beam.found[sentence], one, key=lambda found: found.score)
    return beam.found


class _Beam:
    """One search. `sentences` [B] are the places in the batch of those that are still unfinished, `greedy` [B] is which
    of its hypotheses took the likeliest token every time, -1 where it ended or is among the `lost` sentences.
    """

    def __init__(
        self,
        model: Translator,
        source: Tensor,
        lengths: Tensor,
        end: int,
        width: int,
        length_penalty: float,
        never: Sequence[int],
    ) -> None:
        self.model, self.end, self.width, self.penalty = model, end, width, length_penalty
        self.never = torch.tensor(never, dtype=torch.int64, device=source.device)
        self.memory, self.at = model.encode(source, lengths)
        batch, device = source.shape[1], source.device
        self.sentences = torch.arange(batch, device=device)
        self.limits = LONGER * lengths + MORE
        self.scores = torch.zeros(batch, 1, dtype=torch.float64, device=device)  # one hypothesis at first
        self.places = torch.full((batch,), width, device=device)
        self.history = torch.full((batch, 1, 1), end, device=device)
        self.greedy = torch.zeros(batch, dtype=torch.int64, device=device)
        self.found = [Found([], -float("inf"), False)] * batch
        self.lost: list[int] = []

    def run(self) -> None:
        """Search until every hypothesis has ended."""
        while len(self.sentences):
            self._step()
            self._regroup()

    def _step(self) -> None:
        batch, now = self.scores.shape
        tokens = self.history[:, :, -1].T.reshape(1, -1)
        features, self.at, _ = self.model.decode(tokens, self.at, self.memory)
        log_probs = self.model.head(features[0]).float().log_softmax(-1)  # [N, V]
        log_probs[:, self.never] = -torch.inf
        # a token that is not among the K of its own hypothesis is not among those of the sentence
        k = min(self.width, log_probs.shape[1])
        best, token = log_probs.topk(k)
        gain = best.double().view(now, batch, k).transpose(0, 1)
        token = token.view(now, batch, k).transpose(0, 1)
        top, place = (self.scores.unsqueeze(2) + gain).flatten(1).topk(min(self.width, now * k))
        parents, token = place // k, token.flatten(1).gather(1, place)
        top = top.masked_fill(
            torch.arange(top.shape[1], device=top.device) >= self.places[:, None], -torch.inf
        )
        kept = self.history.gather(1, parents.unsqueeze(2).expand(-1, -1, self.history.shape[2]))
        self.history = torch.cat((kept, token.unsqueeze(2)), 2)
        steps = self.history.shape[2] - 1
        ends = token == self.end
        over = (ends | (steps >= self.limits)[:, None]) & (top > -torch.inf)
        self._keep(top / steps**self.penalty, ends, over)
        self._follow(place == (self.greedy * k)[:, None], top > -torch.inf, over)
        self.places = self.places - over.sum(1)
        self.scores = top.masked_fill(over, -torch.inf)
        columns = (parents.T * batch + torch.arange(batch, device=top.device)).flatten()
        self.at = self.at.columns(lambda part: part.index_select(1, columns))

    def _keep(self, scores: Tensor, ends: Tensor, over: Tensor) -> None:
        """Keep the best hypothesis of each sentence among those [B, K] that are over."""
        best, place = scores.masked_fill(~over, -torch.inf).max(1)
        for row in (best > -torch.inf).nonzero()[:, 0].tolist():
            sentence, k = int(self.sentences[row]), int(place[row])
            if float(best[row]) > self.found[sentence].score:
                ended = bool(ends[row, k])
                tokens = self.history[row, k, 1:].tolist()
                self.found[sentence] = Found(tokens[:-1] if ended else tokens, float(best[row]), ended)

    def _follow(self, likeliest: Tensor, kept: Tensor, over: Tensor) -> None:
        """Note where the greedy hypotheses are now; `likeliest` [B, K]: what continues one by its likeliest token."""
        stays = likeliest & kept
        self.lost += self.sentences[(self.greedy >= 0) & ~stays.any(1)].tolist()
        goes_on = stays & ~over
        self.greedy = goes_on.int().argmax(1).masked_fill(~goes_on.any(1), -1)

    def _regroup(self) -> None:
        """Leave finished sentences out of the batch, once they are many or all."""
        live = (self.scores > -torch.inf).any(1)
        if int(live.sum()) > REGROUP * len(live):
            return
        rows = live.nonzero()[:, 0]
        batch, width = self.scores.shape
        columns = (torch.arange(width, device=rows.device)[:, None] * batch + rows).flatten()
        self.sentences, self.limits, self.places = self.sentences[rows], self.limits[rows], self.places[rows]
        self.greedy = self.greedy[rows]
        self.scores, self.history, self.memory = self.scores[rows], self.history[rows], self.memory.of(rows)
        self.at = self.at.columns(lambda part: part.index_select(1, columns))

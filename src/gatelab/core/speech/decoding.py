"""From the log-probabilities of CTC to symbols: the best path, or the best transcript by prefix beam search.

A path has one output for each step; its transcript is what is left without repetitions and then without blanks, so
many paths have one transcript, and its probability is the sum over them (Graves et al. 2006). The best path may have
another transcript than the best one. Prefix beam search (Hannun et al. 2014, arXiv:1408.2873, without a language model)
carries the likeliest beginnings of transcripts along, each with the probability of its paths that end in a blank and of
those that do not.

Dimensions: T steps, V symbols. Output 0 is the blank.
"""

import math
from collections.abc import Iterable

from torch import Tensor

BLANK = 0
Beams = dict[tuple[int, ...], tuple[float, float]]
"""Of each beginning the log-probability of its paths that end in a blank, and of those that end in a symbol."""


def collapse(path: Iterable[int], last: int = BLANK) -> list[int]:
    """The transcript of a path; `last` is the output before it, where it goes on from an earlier one."""
    said = []
    for output in path:
        if output not in (BLANK, last):
            said.append(output)
        last = output
    return said


def greedy(log_probs: Tensor) -> list[int]:
    """The transcript of the likeliest path of `log_probs [T, V + 1]`."""
    return collapse(log_probs.argmax(-1).tolist())


def beam_search(log_probs: Tensor, width: int) -> tuple[list[int], float]:
    """The likeliest transcript that the search finds in `log_probs [T, V + 1]`, and its log-probability.

    width: how many beginnings are carried along; of a step's outputs the likeliest width + 2 are tried. With enough of
    them the search is exact; with fewer the log-probability is a lower bound.
    """
    beams: Beams = {(): (0.0, -math.inf)}
    kept = min(width + 2, log_probs.shape[-1])
    values, outputs = log_probs.double().topk(kept, -1)
    blanks = log_probs[:, BLANK].double().tolist()
    repeats = log_probs.double().tolist()
    for step, (scores, places) in enumerate(zip(values.tolist(), outputs.tolist(), strict=True)):
        found: Beams = {}

        def add(prefix: tuple[int, ...], blank: float, symbol: float, found: Beams = found) -> None:
            before = found.get(prefix, (-math.inf, -math.inf))
            found[prefix] = (_sum(before[0], blank), _sum(before[1], symbol))

        for prefix, (blank, symbol) in beams.items():
            either = _sum(blank, symbol)
            again = symbol + repeats[step][prefix[-1]] if prefix else -math.inf
            add(prefix, either + blanks[step], again)
            for score, output in zip(scores, places, strict=True):
                if output != BLANK:
                    # the same symbol once more is a new one only behind a blank
                    start = blank if prefix and output == prefix[-1] else either
                    add((*prefix, output), -math.inf, start + score)
        best = sorted(found.items(), key=lambda item: -_sum(*item[1]))[:width]
        beams = dict(best)
    prefix, scores_of = max(beams.items(), key=lambda item: _sum(*item[1]))
    return list(prefix), _sum(*scores_of)


def _sum(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    high, low = (a, b) if a >= b else (b, a)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def decode(log_probs: Tensor, steps: Tensor, beam: int) -> list[list[int]]:
    """Transcripts of `log_probs [T, B, V + 1]`, of `steps [B]` steps each; beam 1 takes the likeliest path."""
    rows = log_probs.detach().float().cpu().unbind(1)
    cut = [row[:count] for row, count in zip(rows, steps.tolist(), strict=True)]
    return [greedy(row) if beam == 1 else beam_search(row, beam)[0] for row in cut]

"""Trivial predictors of a label: the most frequent class, and a linear model that knows no order of steps.

Dimensions: `n` examples, `N` classes, `D` features.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gatelab.data.labelled.examples import Sequences
from gatelab.data.labelled.scores import ClassSums, class_figures, class_sums

BUCKETS: Final = 1 << 16
"""Of hashed n-grams."""
WORD_ORDERS, CHARACTER_ORDERS = (1, 2), (1, 2, 3, 4)
MOST_EXAMPLES: Final = 20_000
"""That the linear model is fitted on, spread over the training split."""
MOST_FEATURES: Final = 10_000
"""Values of a sequence that are features as they are, where all sequences are equally long."""
STEPS, HISTORY = 50, 5
"""Of L-BFGS: steps at most, and how many of them it remembers."""
TOGETHER: Final = 4096


class Part(NamedTuple):
    """A split: its sequences and labels `[n]`."""

    sequences: Sequences
    labels: np.ndarray


def label_baselines(
    train: Part, scored: Part, classes: int, level: str, mean: Any = (), std: Any = ()
) -> dict[str, dict[str, float]]:
    """Return the scores of both on every example of `scored`; level: of tokens, or "" of channels."""
    frequency = np.bincount(train.labels, minlength=classes) / len(train.labels)
    logits = torch.from_numpy(np.log(frequency)).expand(len(scored.labels), -1)
    found = {"majority_class": _figures(logits, scored.labels)}
    some = Part(*train)
    if len(train.labels) > MOST_EXAMPLES:
        index = np.arange(MOST_EXAMPLES) * len(train.labels) // MOST_EXAMPLES
        some = Part(train.sequences.take(index), train.labels[index])
    if level:
        found["bag_of_n_grams"] = _figures(_bags(some, scored, classes, level), scored.labels)
    else:
        found["linear"] = _figures(_linear(some, scored, classes, mean, std), scored.labels)
    return found


def _figures(logits: Tensor, labels: np.ndarray) -> dict[str, float]:
    parts = zip(logits.split(TOGETHER), torch.from_numpy(labels).split(TOGETHER), strict=True)
    sums = [class_sums(some, truth) for some, truth in parts]
    whole = ClassSums(*(sum(parts) for parts in zip(*sums, strict=True)))
    return {name: float(value) for name, value in class_figures(whole).items()}


def n_grams(sequences: Sequences, orders: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashed n-grams of each sequence, each once, and where those of each begin `[n]`."""
    ids = sequences.values.astype(np.uint64)
    owner = np.repeat(np.arange(len(sequences.lengths), dtype=np.uint64), sequences.lengths)
    found, of = [], []
    for order in orders:
        ends = len(ids) - order + 1
        if ends < 1:
            continue
        code = np.full(ends, order, dtype=np.uint64)
        for offset in range(order):  # FNV-1a, a token at a time
            code = (code ^ (ids[offset : offset + ends] + np.uint64(1))) * np.uint64(0x100000001B3)
        inside = owner[:ends] == owner[order - 1 :]
        code ^= code >> np.uint64(29)
        found.append((code % np.uint64(BUCKETS))[inside])
        of.append(owner[:ends][inside])
    pairs = np.unique(np.concatenate(of) * np.uint64(BUCKETS) + np.concatenate(found))
    begins = np.searchsorted(pairs // np.uint64(BUCKETS), np.arange(len(sequences.lengths)))
    return (pairs % np.uint64(BUCKETS)).astype(np.int64), begins


def _bags(train: Part, scored: Part, classes: int, level: str) -> Tensor:
    """Logits `[n, N]` of logistic regression on which n-grams occur (Joulin et al. 2016 hash them alike)."""
    orders = CHARACTER_ORDERS if level in ("char", "byte") else WORD_ORDERS
    known = np.unique(n_grams(train.sequences, orders)[0])
    weights, bias = torch.zeros(len(known) + 1, classes), torch.zeros(classes)  # the last one's stay 0

    def logits_of(part: Part) -> Any:
        grams, begins = n_grams(part.sequences, orders)
        place = np.searchsorted(known, grams).clip(max=len(known) - 1)
        index = torch.from_numpy(np.where(known[place] == grams, place, len(known)))
        return lambda: F.embedding_bag(index, weights, torch.from_numpy(begins), mode="sum") + bias

    _fit(logits_of(train), weights, bias, train.labels)
    logits: Tensor = logits_of(scored)()
    return logits


def _linear(train: Part, scored: Part, classes: int, mean: Any, std: Any) -> Tensor:
    """Logits `[n, N]` of logistic regression on every value, or of sequences of different lengths on a summary."""
    lengths = np.concatenate([train.sequences.lengths, scored.sequences.lengths])
    size = int(lengths[0]) * train.sequences.values.shape[1]
    whole = len(set(lengths.tolist())) == 1 and size <= MOST_FEATURES
    known, new = (_features(part.sequences, mean, std, whole) for part in (train, scored))
    weights, bias = torch.zeros(known.shape[1], classes), torch.zeros(classes)
    _fit(lambda: known @ weights + bias, weights, bias, train.labels)
    return new @ weights + bias


def _features(sequences: Sequences, mean: Any, std: Any, whole: bool) -> Tensor:
    """All values `[n, D]`, or mean, deviation, least, most, first and last of each channel."""
    rows = []
    for start in range(0, len(sequences.lengths), TOGETHER):
        index = np.arange(start, min(start + TOGETHER, len(sequences.lengths)))
        values, steps = sequences.padded(index, mean, std)
        if whole:
            rows.append(values.flatten(1))
            continue
        behind = (torch.arange(values.shape[1]) >= steps[:, None])[..., None]
        average = values.sum(1) / steps[:, None]
        errors = (values - average[:, None]).masked_fill(behind, 0)
        spread = (errors.square().sum(1) / steps[:, None]).sqrt()
        least = values.masked_fill(behind, torch.inf).amin(1)
        most = values.masked_fill(behind, -torch.inf).amax(1)
        last = values[torch.arange(len(steps)), steps - 1]
        rows.append(torch.cat([average, spread, least, most, values[:, 0], last], dim=1))
    return torch.cat(rows)


def _fit(logits: Any, weights: Tensor, bias: Tensor, labels: np.ndarray) -> None:
    """Minimise the summed NLL + |weights|^2 / 2, which has one minimum."""
    truth = torch.from_numpy(labels)
    parameters = [weights.requires_grad_(), bias.requires_grad_()]
    search = torch.optim.LBFGS(
        parameters, max_iter=STEPS, history_size=HISTORY, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        search.zero_grad()
        loss = (F.cross_entropy(logits(), truth, reduction="sum") + weights.square().sum() / 2) / len(truth)
        loss.backward()
        return loss.item()

    with torch.enable_grad():
        search.step(closure)
    for parameter in parameters:
        parameter.requires_grad_(False)

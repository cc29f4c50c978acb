"""What a translator gives `gatelab explain`: sentence pairs read by encoder and decoder, and the attention.

Letters: R sentences, S, T steps of source and target, E embedding.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gatelab.core.attribution import replaced
from gatelab.core.text.head import token_nll
from gatelab.data.messages import shows
from gatelab.data.specs import IGNORE
from gatelab.data.text.text_files import lines_of
from gatelab.tasks.contract import HeatMap, RunSource
from gatelab.tasks.explanation.reading import Part, Prediction, Reading, decoded, powers, with_context
from gatelab.tasks.labels.reading import FURTHEST, positions

PAIRS, SHOWN, MAPS = 96, 4, 2
"""Sentences that are read, that are shown, and whose attention is shown."""


def read_pairs(task: Any, run: RunSource, file: Path | None) -> Reading:
    """Pairs of the validation split, or the sentences of a file with the network's own translations as targets."""
    source, lengths, inputs, targets = _validation(task, run) if file is None else _of_file(task, run, file)
    net, tokenizer = task.net, run.tokenizer
    ends = (targets != IGNORE).sum(0)

    def losses() -> Tensor:
        features = net.features(source, lengths, inputs)
        wanted = targets.flatten()
        return token_nll(net.head, features.flatten(0, 1), wanted)[wanted != IGNORE]

    sides = ((source, lengths, tokenizer.source), (inputs, ends, tokenizer.target))
    texts = [
        [texts_of(side, ids[: int(n[r]), r], task.spec.seed_token) for r in range(min(SHOWN, ids.shape[1]))]
        for ids, n, side in sides
    ]
    parts = [
        Part("encoder", net.encoder, texts[0], "text", positions(lengths, len(source)), source.T.numpy()),
    ]
    if not net.input_feeding:  # else the decoder is called for every step anew
        about = positions(ends, len(inputs))
        parts.append(Part("decoder", net.core, texts[1], "text", about, inputs.T.numpy(), lengths=ends))
    return Reading(
        note=f"{source.shape[1]} sentences of {'the validation split' if file is None else file}"
        + ("." if file is None else ", with the network's own translations."),
        unit="nats per token",
        losses=losses,
        parts=parts,
        carried=None if net.input_feeding else with_context(net.core, losses),
        contexts=powers(min(int(ends.median()) - 1, FURTHEST)),
        context_unit="words of the translation",
        prediction=_prediction(task, tokenizer, source[: int(lengths[0]), 0], texts[0][0]),
        maps=[
            attention_map(task, tokenizer, source[: int(lengths[r]), r])
            for r in range(min(MAPS, source.shape[1]))
        ],
    )


def texts_of(side: Any, ids: Tensor, end: int) -> list[str]:
    """The text of each token; `(end)` for the one that ends a sentence."""
    texts = decoded(ids, side.decode)
    space = "" if side.level in ("char", "bpe") else " "
    return [
        "(end)" if token == end else f"{text}{space}" for token, text in zip(ids.tolist(), texts, strict=True)
    ]


def _validation(task: Any, run: RunSource) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count = task.spec.pairs["valid"]
    chosen = np.sort(np.random.default_rng(0).permutation(count)[:PAIRS])
    batch = run.data.batch("valid", chosen)
    return batch.source, batch.lengths, batch.inputs, batch.targets


def _of_file(task: Any, run: RunSource, file: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    lines = [line for line in lines_of(file) if shows(line)][:PAIRS]
    if not lines:
        raise ValueError(f"{file}: holds no sentence")
    ids = [run.tokenizer.encode(line) for line in lines]
    source, lengths = pad_sequence(ids), torch.tensor([len(one) for one in ids])
    end = task.spec.seed_token
    said = [torch.tensor([*one.tokens, end]) for one in _found(task, source, lengths)]
    inputs = pad_sequence([torch.cat((one.new_tensor([end]), one[:-1])) for one in said], padding_value=end)
    return source, lengths, inputs, pad_sequence(said, padding_value=IGNORE)


@torch.no_grad()
def _found(task: Any, source: Tensor, lengths: Tensor) -> Sequence[Any]:
    found: Sequence[Any] = task.search(source, lengths, task.beam, task.length_penalty)
    return found


@torch.no_grad()
def attention_map(task: Any, tokenizer: Any, source: Tensor) -> HeatMap:
    """The weights of every word of the translation on those of the source."""
    net, end = task.net, task.spec.seed_token
    lengths = torch.tensor([len(source)])
    said = _found(task, source[:, None], lengths)[0].tokens
    memory, at = net.encode(source[:, None], lengths)
    weights = net.decode(torch.tensor([end, *said])[:, None], at, memory)[2][:, 0]
    rows = texts_of(tokenizer.target, torch.tensor([*said, end]), end)
    columns = texts_of(tokenizer.source, source, end)
    note = (
        f"{tokenizer.decode(said)!r}: the weight of each source word (above) for each word of the translation"
    )
    return HeatMap(note, rows, columns, [[round(w, 4) for w in row] for row in weights.tolist()])


def _prediction(task: Any, tokenizer: Any, source: Tensor, steps: Sequence[str]) -> Prediction:
    """The middle word of the first sentence's translation, attributed to the source's words."""
    net, end = task.net, task.spec.seed_token
    lengths, column = torch.tensor([len(source)]), source[:, None]
    said = list(_found(task, column, lengths)[0].tokens) or [end]
    place = len(said) // 2
    target = torch.tensor([end, *said[:place]])[:, None]
    with torch.no_grad():
        x = net.source_embedding(source).detach()
        baseline = net.source_embedding.weight.mean(0).expand_as(x).clone()

    def score(v: Tensor) -> Tensor:
        with replaced(net.source_embedding, v[:, None]):
            memory, at = net.encode(column, lengths)
        features, _, _ = net.decode(target, at, memory)
        return net.head(features[-1])[0].log_softmax(-1)[said[place]]

    word, whole = tokenizer.target.decode([said[place]]), tokenizer.decode(said)
    note = (
        f"The log-probability of {word!r}, word {place + 1} of the translation {whole!r}, given those before."
    )
    return Prediction(note, score, x, baseline, steps, "text")

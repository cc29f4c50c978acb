"""What a language model gives `gatelab explain`: a text read from its beginning, with what is known of every place.

Letters: R streams of the text, T tokens, V vocabulary, E embedding.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatelab.core.attribution import replaced
from gatelab.data.text.text_files import blocks, characters
from gatelab.tasks.contract import RunSource
from gatelab.tasks.explanation.reading import Part, Prediction, Reading, decoded, powers
from gatelab.tasks.text.perplexity import nll_in_parts

STREAMS, STEPS = 8, 640
"""Streams of the text that are read, and tokens of each."""
WARM = 128
"""First tokens of a stream that are not scored: their losses are those of a state that has seen little."""
LONGEST = 128
"""The most tokens that are asked to be carried, and that a prediction is attributed to."""
OPEN, CLOSE, QUOTES = "([{", ")]}", '"“”«»'


def read_text(net: Any, run: RunSource, file: Path | None) -> Reading:
    """The beginning of each validation stream, or of `file`, for `Task.reading`.

    Raises ValueError on symbols that stand for no text, and on a text that is too short.
    """
    tokenizer = run.tokenizer
    if tokenizer is None:
        raise ValueError("a language model of symbols, which stand for no text: there is none to show")
    tokens = _validation(run.data) if file is None else _of_file(file, tokenizer)
    inputs, targets = tokens[:-1], tokens[1:]  # [T, R]
    warm = min(WARM, len(inputs) // 4)
    word = tokenizer.level == "word"
    texts = [decoded(stream, tokenizer.decode) for stream in inputs.T]
    shown = [[f"{text} " if word and text != "\n" else text for text in stream] for stream in texts]

    @functools.cache
    def read() -> Tensor:
        return net.features(inputs)[0]

    def losses() -> Tensor:
        features, _ = net.features(inputs)
        return nll_in_parts(net, features[warm:], targets[warm:])

    last = inputs[-min(LONGEST, len(inputs)) :, 0]
    scored = targets[warm:].flatten()
    names = {token: tokenizer.decode([token]) for token in set(scored.tolist())}
    return Reading(
        note=f"{inputs.shape[1]} streams of {len(inputs)} tokens from "
        f"{'the validation split' if file is None else file}; the first {warm} of each are not scored.",
        unit="nats per token",
        losses=losses,
        parts=[Part("core", net.core, shown, "text", text_probes(shown), inputs.T.numpy())],
        targets=[names[token] for token in scored.tolist()],
        carried=lambda k: _carried(net, inputs, targets, k, read()),
        contexts=powers(min(LONGEST, len(inputs) // 2)),
        context_unit="tokens",
        prediction=_prediction(net, tokenizer, last, shown[0][-len(last) :]),
    )


def _validation(data: Any) -> Tensor:
    """Tokens [T + 1, R] of the validation split in the order of its streams."""
    ids = data.tokens["valid"]
    steps = min(STEPS + 1, len(ids) // STREAMS)
    starts = np.linspace(0, len(ids) - steps, STREAMS).astype(int) if steps > STEPS // 4 else [0]
    steps = steps if len(starts) > 1 else min(STEPS + 1, len(ids))
    return torch.stack([ids[start : start + steps].long() for start in starts], dim=1)


def _of_file(file: Path, tokenizer: Any) -> Tensor:
    """Tokens [T + 1, R] of a file, which is cut into streams where it is long."""
    ids = tokenizer.encode("".join(characters(str(file), blocks(file), "char", as_bytes=False))).long()
    ids = torch.cat((torch.tensor([tokenizer.seed_token]), ids))
    if len(ids) < 9:
        raise ValueError(f"{file}: {len(ids) - 1} tokens are too few to look at; give at least 8")
    streams = max(1, min(STREAMS, len(ids) // (STEPS + 1)))
    steps = min(STEPS + 1, len(ids))
    return torch.stack([ids[n * steps : (n + 1) * steps] for n in range(streams)], dim=1)


def _carried(net: Any, inputs: Tensor, targets: Tensor, k: int, whole: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of as many positions as 12 thousand steps of reading allow, with k tokens carried and with all."""
    longest = min(LONGEST, len(inputs) // 2)
    places = [(t, r) for t in range(longest, len(inputs)) for r in range(inputs.shape[1])]
    most = max(96, min(1024, 12288 // (k + 1)))
    places = places[:: max(1, len(places) // most)][:most]
    windows = torch.stack([inputs[t - k : t + 1, r] for t, r in places], dim=1)
    wanted = torch.stack([targets[t, r] for t, r in places])
    features, _ = net.features(windows)
    at = torch.stack([whole[t, r] for t, r in places])
    return nll_in_parts(net, features[-1], wanted), nll_in_parts(net, at, wanted)


def _prediction(net: Any, tokenizer: Any, tokens: Tensor, steps: Sequence[str]) -> Prediction:
    """The likeliest token after `tokens` [T], attributed to their embeddings; compared with the mean embedding."""
    column = tokens[:, None]

    def log_probs(x: Tensor) -> Tensor:
        with replaced(net.embedding, x[:, None]):
            features, _ = net.features(column)
        logits: Tensor = net.head(features[-1])
        return logits[0].log_softmax(-1)

    with torch.no_grad():
        x = net.embedding(tokens)
        baseline = net.embedding.weight.mean(0).expand_as(x).clone()
        best = int(log_probs(x).argmax())
    said = tokenizer.decode([best])
    note = f"The log-probability of {said!r}, the likeliest token after the {len(tokens)} that are shown."
    return Prediction(note, lambda v: log_probs(v)[best], x, baseline, steps, "text")


def text_probes(streams: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """What is known of a text after each of its tokens, by name [R, T].

    position in line, in sentence, in word: characters since it began (NaN before the first beginning that is seen);
    inside quotes: 0 or 1, new at every empty line; bracket depth; indentation of the line; line of the paragraph.
    """
    walks = [_walk(stream) for stream in streams]
    return {name: np.array([walk[name] for walk in walks]) for name in walks[0]}


def _walk(stream: Sequence[str]) -> dict[str, list[float]]:
    nan = float("nan")
    line = sentence = word = indent = paragraph = nan
    quotes = depth = 0.0
    blank, leading = False, False
    found: dict[str, list[float]] = {}
    for token in stream:
        for c in token:
            line, sentence, word = line + 1, sentence + 1, word + 1
            if c == "\n":
                if blank:
                    paragraph, quotes, depth = 0.0, 0.0, 0.0
                else:
                    paragraph += 1
                line, blank, leading, indent = 0.0, True, True, 0.0
            else:
                if leading and c in " \t":
                    indent += 1
                else:
                    leading = False
                blank = blank and c in " \t"
            if c in ".!?\n":
                sentence = 0.0
            if not (c.isalnum() or c in "_'"):
                word = 0.0
            if c in QUOTES:
                quotes = 1.0 - quotes
            depth = max(0.0, depth + (c in OPEN) - (c in CLOSE))
        now = {
            "position in line": line,
            "position in sentence": sentence,
            "position in word": word,
            "inside quotes": quotes,
            "bracket depth": depth,
            "indentation": indent,
            "line of the paragraph": paragraph,
        }
        for name, value in now.items():
            found.setdefault(name, []).append(value)
    return found

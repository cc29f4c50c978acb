"""Continue a text with a run's language model. Needs the run directory only: the vocabulary is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gatelab.core import generate as sample
from gatelab.data.text.tokenizer import WordTokenizer, tokenizer_from_dict
from gatelab.run.build import request_errors
from gatelab.run.errors import RequestError
from gatelab.run.load import load_task
from gatelab.run.messages import say
from gatelab.run.record.directory import read_record


def generate(
    path: str | Path,
    prompt: str,
    *,
    tokens: int = 300,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    trust: bool = False,
) -> str:
    """The prompt and its continuation.

    Args:
        path: the run directory.
        prompt: text to continue; empty for the beginning of a stream.
        tokens: how many tokens to add.
        temperature: of the softmax; 0 takes the likeliest token each time.
        top_k: draw from the k likeliest tokens only.
        top_p: draw from the smallest set of tokens with at least this probability.
        seed: of the draws.
        trust: accept targets that are not part of Gatelab.

    Raises:
        RequestError: the run is no language model of text, or a value is out of range.
    """
    loaded = load_task(path, trust=trust)
    if not loaded.run.tokenizer_file.is_file():
        raise RequestError(f"{path}: no language model of a text, so there is nothing to generate.")
    tokenizer = tokenizer_from_dict(read_record(loaded.run.tokenizer_file, ("level",)))
    if tokens < 0:
        raise RequestError(f"--tokens {tokens}: at least 0.")
    if unknown := unknown_in(tokenizer, prompt):
        shown = ", ".join(map(repr, unknown[:5])) + ", ..." * (len(unknown) > 5)
        say(f"not in the run's vocabulary, so read as unknown: {shown}")
    with request_errors("settings"), torch.inference_mode():
        start = torch.tensor([tokenizer.seed_token, *tokenizer.encode(prompt).tolist()])
        drawn = sample(
            loaded.task.net,
            start,
            tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            generator=torch.Generator().manual_seed(seed),
        )
    return prompt + joint(tokenizer.level, prompt) + tokenizer.decode(drawn)


def unknown_in(tokenizer: Any, text: str) -> list[str]:
    """The words or characters of `text` that the run's vocabulary lacks, each once; pieces express any text."""
    if tokenizer.level == "bpe":
        return []
    parts = WordTokenizer.split(text) if tokenizer.level == "word" else text
    return list(dict.fromkeys(part for part in parts if part not in tokenizer.index))


def joint(level: str, prompt: str) -> str:
    """What stands between a prompt and its continuation: words need a space."""
    return " " if level == "word" and prompt and not prompt[-1].isspace() else ""

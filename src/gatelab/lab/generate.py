"""Continue a text with a run's language model. Needs the run directory only: the vocabulary is in it."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from gatelab.core import generate as sample
from gatelab.data.tokenizer import tokenizer_from_dict
from gatelab.lab.build import request_errors
from gatelab.lab.errors import RequestError
from gatelab.lab.load import load_task


def generate(
    path: str | Path,
    prompt: str,
    *,
    tokens: int = 300,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
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

    Raises:
        RequestError: the run is no language model of text, or a value is out of range.
    """
    loaded = load_task(path)
    if not loaded.run.tokenizer_file.is_file():
        raise RequestError(f"{path}: no language model of a text, so there is nothing to generate.")
    tokenizer = tokenizer_from_dict(json.loads(loaded.run.tokenizer_file.read_text()))
    with request_errors("generate"), torch.inference_mode():
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


def joint(level: str, prompt: str) -> str:
    """What stands between a prompt and its continuation: words need a space."""
    return " " if level == "word" and prompt and not prompt[-1].isspace() else ""

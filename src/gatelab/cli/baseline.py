"""Score the trivial models on a data set: what any network has to beat.

Text: the unigram model of the training split, and unigram and bigram interpolated 0.3/0.7 (perplexity).
Series: repeat the last value, repeat the last season, drift, and a closed-form linear forecast (MSE, MAE, and scores of
the quantiles that their errors in training give).
Classes: the most frequent class, and logistic regression on n-grams or values (of sounds the first only). Sentence
pairs: the source as it is, and a word-by-word dictionary.

examples:
  gatelab baseline data=ptb_word
  gatelab baseline data=etth1 data.horizon=96 --json
"""

from __future__ import annotations

import argparse

from gatelab.cli.common import add_overrides, print_json, print_table, scores_table
from gatelab.data.messages import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_overrides(parser)


def run(options: argparse.Namespace) -> int:
    """Score the baselines on every split but the training one."""
    from gatelab.run.build import build_data
    from gatelab.run.config import check, compose

    composed = compose(options.overrides, config_dirs=options.config_dir)
    data = build_data(check(composed))
    for note in data.notes:
        say(note)
    scores = {split: data.baselines(split) for split in data.splits if split != "train"}
    if options.json:
        print_json({"data": composed.choices["data"], "splits": scores})
        return 0
    for split, rows in scores.items():
        print_table(scores_table(f"{composed.choices['data']}, {split} split", rows))
    return 0

"""BLEU and chrF of translations, by sacrebleu, so that they compare with what others publish.

`bleu` and `chrf` are of the text as a reader sees it, cased and detokenised, against the raw references (Post 2018,
arXiv:1804.08771; Papineni et al. 2002; Popovic 2015). `bleu_lower` is the figure of much of the literature: lower-cased
tokens, which are not tokenised again; it depends on how tokens are cut (here `plain_parts`) and compares roughly only.
All are percentages from counts over the whole corpus.
"""

from collections.abc import Sequence
from typing import Any

from gatelab.data.messages import DataError
from gatelab.data.text.tokenizer import plain_parts


def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError:
        raise DataError(
            "a package is missing (sacrebleu), which scores translations: pip install 'gatelab[translation]'"
        ) from None
    return sacrebleu


def check_scores(tokenizer: str) -> None:
    """Raise `DataError` where sacrebleu is missing or has no such tokenizer."""
    known = _sacrebleu().BLEU.TOKENIZERS
    if tokenizer not in known:
        raise DataError(f"data.bleu_tokenizer={tokenizer}: sacrebleu has {', '.join(sorted(known))}")


def translation_scores(
    hypotheses: Sequence[str], references: Sequence[str], tokenizer: str = "13a"
) -> dict[str, float]:
    """Return `bleu`, `chrf` and `bleu_lower` of translations against one reference each."""
    metrics = _sacrebleu()
    lower = [[" ".join(plain_parts(text.lower())) for text in texts] for texts in (hypotheses, references)]
    return {
        "bleu": metrics.BLEU(tokenize=tokenizer).corpus_score(hypotheses, [references]).score,
        "chrf": metrics.CHRF().corpus_score(hypotheses, [references]).score,
        "bleu_lower": metrics.BLEU(tokenize="none", force=True).corpus_score(lower[0], [lower[1]]).score,
    }


def signatures(tokenizer: str = "13a") -> dict[str, str]:
    """Return what sacrebleu says of how each score is made, its version included."""
    metrics = _sacrebleu()
    made = {
        "bleu": metrics.BLEU(tokenize=tokenizer),
        "chrf": metrics.CHRF(),
        "bleu_lower": metrics.BLEU(tokenize="none", force=True),
    }
    found = {}
    for name, metric in made.items():
        metric.corpus_score(["a"], [["a"]])  # it knows the number of references only then
        found[name] = str(metric.get_signature())
    return found

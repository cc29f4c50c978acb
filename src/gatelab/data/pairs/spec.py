"""What a DataModule of sentence pairs publishes, and its batches.

Dimensions: `B` sentences, `S` source steps, `T` target steps.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from gatelab.data.specs import Spec

if TYPE_CHECKING:  # a spec is read where torch is not loaded
    from torch import Tensor

    from gatelab.data.text.tokenizer import PairTokenizer


class PairTexts(NamedTuple):
    """The sentences of a batch as they stand in the files, and the tokenizer that writes translations of them."""

    sources: list[str]
    references: list[str]
    tokenizer: "PairTokenizer"


class PairBatch(NamedTuple):
    """`B` sentences and their translations, time-major, padded to the longest.

    source: `[S, B]` int64, the source with the seed token at its end. lengths: `[B]` int64, its tokens.
    inputs: `[T, B]` int64, the seed token and the target; padding repeats the seed token.
    targets: `[T, B]` int64, the target and the seed token, which ends it; `IGNORE` behind that.
    texts: in evaluation; None in training.
    """

    source: "Tensor"
    lengths: "Tensor"
    inputs: "Tensor"
    targets: "Tensor"
    texts: PairTexts | None = None


@dataclass(frozen=True)
class PairSpec(Spec):
    """Sentences to be translated.

    vocabulary, source_vocabulary: tokens of the target and the source; source_vocabulary 0: a joint one.
    level: "word", "char" or "bpe". seed_token: stands before a target and ends it. unknown_token: the target's token
        for what its vocabulary lacks; -1 where it lacks nothing.
    pairs: of each split; tokens: target tokens, ends included; unknown: those of them that are the unknown token.
    bleu_tokenizer: sacrebleu's, for BLEU.
    """

    kind: ClassVar[str] = "translation"
    sizes: ClassVar[tuple[str, ...]] = ("vocabulary", "source_vocabulary", "seed_token", "unknown_token")

    vocabulary: int
    source_vocabulary: int
    level: str
    seed_token: int
    unknown_token: int
    pairs: dict[str, int]
    tokens: dict[str, int]
    unknown: dict[str, int]
    bleu_tokenizer: str

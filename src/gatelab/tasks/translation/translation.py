"""Translation: sentences of one language said in another, trained on pairs, scored by BLEU and chrF.

Training is teacher-forced: every target token is predicted from those before it, the reference's own. `loss` and `ppl`
of an evaluation are so too, over all target tokens; BLEU and chrF are of translations that the search finds.

Letters: S, T steps of source and target, B sentences, V vocabulary.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from gatelab.core.text.head import token_loss, token_nll
from gatelab.core.translation.search import Found, search
from gatelab.data.messages import Progress, bars, few, shows
from gatelab.data.pairs.scores import check_scores, signatures, translation_scores
from gatelab.data.pairs.spec import PairBatch, PairSpec
from gatelab.data.specs import IGNORE
from gatelab.data.text.text_files import lines_of
from gatelab.data.text.tokenizer import PairTokenizer
from gatelab.data.text_table import is_table
from gatelab.tasks.base import Task, TaskOptions
from gatelab.tasks.contract import (
    GraphInterface,
    Method,
    Metric,
    Option,
    Remark,
    RunSource,
    Sample,
    ScoredRow,
    TableSample,
    check_beam,
)
from gatelab.tasks.explanation.reading import Reading
from gatelab.tasks.metrics import TokenLoss
from gatelab.tasks.resume import gather_ranks
from gatelab.tasks.translation.graph import parts, sentences, whole_graph
from gatelab.tasks.translation.reading import MAPS, attention_map, read_pairs

if TYPE_CHECKING:
    import pandas as pd

VOCABULARY = ("data.level", "data.vocabulary_size", "data.min_count", "data.joint", "data.lower", "data.pair")
"""Keys that decide what a target token is: losses per token compare where they are the same."""
AT_ONCE = 64
"""Sentences that are translated together outside an evaluation."""
SHOWN = 6


class TranslationTask(Task):
    """Train and evaluate a `gatelab.core.Translator` (or anything with its `encode`, `decode`, `features` and `head`).

    Args:
        label_smoothing: share of the target's probability spread evenly over the vocabulary, in the objective only
            (Szegedy et al. 2016, arXiv:1512.00567).
        beam: hypotheses that an evaluation and a prediction search with; 1 is greedy.
        length_penalty: the power of the length by which a hypothesis' log-probability is divided (Wu et al. 2016,
            arXiv:1609.08144): 1 compares means, 0 sums.

    The other arguments are those of `Task`. Metrics: `bleu`, `chrf`, `bleu_lower` (see `gatelab.data.pairs.scores`),
    `loss` (nats per target token), `ppl`, `tokens`, `sentences`; where there are some, `unknown`, the share of target
    tokens outside the vocabulary, and `cut`, the translations that were cut at the greatest length.
    """

    spec_type: ClassVar[type[PairSpec]] = PairSpec
    unit: ClassVar[str] = "tokens"
    figures = (
        Metric("bleu", "BLEU", better="max", format=".2f"),
        Metric("chrf", "chrF", better="max", format=".2f"),
        Metric("bleu_lower", "BLEU of lower-cased tokens", better="max", format=".2f"),
        Metric("loss", unit="nats per token", same=VOCABULARY),
        Metric("ppl", "perplexity", same=VOCABULARY),
        Metric("sentences", better=None),
        Metric("tokens", "target tokens", better=None),
        Metric("unknown", "share of target tokens outside the vocabulary", better=None),
        Metric("cut", "translations cut at the greatest length", better=None),
    )
    methods: ClassVar[Mapping[str, Method]] = {
        "beam": Method(
            "beam search",
            "The translations that a beam of another width or length penalty finds.",
            {"width": Option((5,), int, 1), "length_penalty": Option((1.0,))},
        )
    }
    taught_by = ("vocabulary", "source_vocabulary", "level")
    metric: TokenLoss

    def __init__(
        self,
        net: nn.Module,
        *,
        label_smoothing: float = 0.0,
        beam: int = 1,
        length_penalty: float = 1.0,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(net, **options)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1), not {label_smoothing}")
        check_beam(beam)
        if length_penalty < 0:
            raise ValueError(f"length_penalty must not be negative, not {length_penalty}")
        check_scores(self.spec.bleu_tokenizer)
        self.label_smoothing, self.beam, self.length_penalty = label_smoothing, beam, length_penalty
        self.metric = TokenLoss(characters_per_token=None)
        self._said: list[tuple[str, str, bool]] = []  # translation, reference, whether it came to its end

    @classmethod
    def build_net(
        cls, net: Callable[..., nn.Module], core: Callable[..., nn.Module], spec: PairSpec
    ) -> nn.Module:
        """Call the network's factory with both vocabularies."""
        return net(vocab_size=spec.vocabulary, source_vocab_size=spec.source_vocabulary or None, core=core)

    def count(self, batch: PairBatch) -> int:
        """Return the batch's target tokens, padding included."""
        return batch.inputs.numel()

    def train_loss(self, batch: PairBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the objective, the summed NLL (nats) and the number of target tokens."""
        features = self.net.features(batch.source, batch.lengths, batch.inputs)
        targets = batch.targets.flatten()
        count = (targets != IGNORE).sum()
        rows = features.flatten(0, 1)
        if self.teacher is None:
            total, nll = token_loss(self.net.head, rows, targets, self.label_smoothing)
        else:  # word-level distillation (Kim and Rush 2016, arXiv:1606.07947, section 3.1)
            with torch.no_grad():
                own = self.teacher.task.net.features(batch.source, batch.lengths, batch.inputs)
            total, nll = self.teacher.token_loss(
                self.net.head, rows, own.flatten(0, 1), targets, self.label_smoothing
            )
        return total / self.mean_count(count), nll, count

    # evaluation

    def begin_eval(self, split: str) -> None:
        """Forget the last translations too."""
        super().begin_eval(split)
        self._said = []

    def eval_step(self, batch: PairBatch) -> None:
        """Score the references token by token, and translate the sources."""
        features = self.net.features(batch.source, batch.lengths, batch.inputs)
        targets = batch.targets.flatten()
        nll = token_nll(self.net.head, features.flatten(0, 1), targets)
        self.metric.update(nll.sum(dtype=torch.float64), (targets != IGNORE).sum())
        self._said += self._translated(batch, self.beam, self.length_penalty)

    def _translated(self, batch: PairBatch, beam: int, length_penalty: float) -> list[tuple[str, str, bool]]:
        """Each translation of a batch with its reference, and whether it came to its end."""
        if batch.texts is None:
            raise ValueError(
                "the DataModule gives no sentences in evaluation (`PairBatch.texts`), so there is no BLEU"
            )
        found = self.search(batch.source, batch.lengths, beam, length_penalty)
        said = (batch.texts.tokenizer.decode(one.tokens) for one in found)
        ended = (one.ended for one in found)
        return list(zip(said, batch.texts.references, ended, strict=True))

    def search(self, source: Tensor, lengths: Tensor, beam: int, length_penalty: float) -> list[Found]:
        """The likeliest translation of each of the sentences source [S, B]."""
        unknown = self.spec.unknown_token
        return search(
            self.net,
            source,
            lengths,
            end=self.spec.seed_token,
            width=beam,
            length_penalty=length_penalty,
            never=[unknown] if unknown >= 0 else [],
        )

    def end_eval(self, split: str) -> dict[str, Tensor]:
        """Return the figures over the sentences of all processes."""
        said = [one for rank in gather_ranks({"said": self._said}) for one in rank["said"]]
        self._said = []
        figures: dict[str, Any] = self._scores(said) | self.metric.compute()
        name = "valid" if split == "val" else split
        if unknown := self.spec.unknown.get(name, 0):
            figures["unknown"] = unknown / self.spec.tokens[name]
        return {name: torch.as_tensor(value, dtype=torch.float64) for name, value in figures.items()}

    def _scores(self, said: Sequence[tuple[str, str, bool]]) -> dict[str, float]:
        hypotheses, references, ended = zip(*said, strict=True)
        scores = translation_scores(hypotheses, references, self.spec.bleu_tokenizer)
        cut = len(ended) - sum(ended)
        return scores | {"sentences": len(ended)} | ({"cut": cut} if cut else {})

    def score_row(
        self, method: str, options: Mapping[str, Sequence[Any]], data: Any, split: str, progress: Progress
    ) -> ScoredRow:
        """Score a split with another beam."""
        if several := [name for name, values in options.items() if len(values) > 1]:
            raise ValueError(f"give one {several[0]} at a time: the beam is not tuned")
        point = {name: values[0] for name, values in options.items()}
        tick = progress(f"beam, {split}", self.spec.pairs[split])
        said: list[tuple[str, str, bool]] = []
        for batch in data.dataloader(split):
            moved = batch._replace(source=batch.source.to(self.device), lengths=batch.lengths.to(self.device))
            said += self._translated(moved, point["width"], point["length_penalty"])
            tick(len(batch.lengths))
        return ScoredRow({name: float(value) for name, value in self._scores(said).items()}, point)

    # what the views ask for

    def describe(self) -> dict[str, Any]:
        """Add how the scores are made, in sacrebleu's words."""
        return {**super().describe(), "signatures": signatures(self.spec.bleu_tokenizer)}

    def commands(self) -> list[str]:
        """Sentences can be translated."""
        return ["predict RUN --input sentences.txt --output translations.txt"]

    def translate(self, tokenizer: PairTokenizer, sentences: Sequence[str]) -> list[str]:
        """Return the translation of each sentence."""
        ids = [tokenizer.encode(sentence) for sentence in sentences]
        order = np.argsort([len(sentence) for sentence in ids], kind="stable")
        texts = [""] * len(ids)
        with bars() as progress:
            tick = progress("sentences", len(ids))
            for start in range(0, len(ids), AT_ONCE):
                places = order[start : start + AT_ONCE]
                part = [ids[i] for i in places]
                lengths = torch.tensor([len(sentence) for sentence in part], device=self.device)
                source = pad_sequence(part).to(self.device)
                found = self.search(source, lengths, self.beam, self.length_penalty)
                for place, one in zip(places, found, strict=True):
                    texts[place] = tokenizer.decode(one.tokens)
                tick(len(part))
        return texts

    def predict(self, run: RunSource, file: Path) -> "pd.DataFrame":
        """Translate a text file, a sentence a line."""
        import pandas as pd

        if is_table(file, ".csv", ".tsv"):
            raise ValueError("is a table; write its sentences into a text file (.txt), one a line")
        if not (lines := lines_of(file)):
            raise ValueError("the file is empty; write a sentence a line")
        if empty := [number for number, line in enumerate(lines, 1) if not shows(line)]:
            raise ValueError(f"line {empty[0]} is empty: there is nothing to translate; remove it")
        unknown = list(dict.fromkeys(word for line in lines for word in run.tokenizer.unknown_in(line)))
        if unknown:
            warnings.warn(
                f"not in the run's vocabulary, so read as unknown: {few(unknown, 5)}", Remark, stacklevel=2
            )
        return pd.DataFrame({"source": lines, "translation": self.translate(run.tokenizer, lines)})

    @torch.inference_mode()
    def sample(self, run: RunSource) -> TableSample:
        """The first sentences of the validation split, translated, with the source word that each word attends to."""
        batch: PairBatch = run.data.batch("valid", range(min(SHOWN, self.spec.pairs["valid"])))
        tokenizer, rows = run.data.tokenizer, []
        assert batch.texts is not None
        found = self.search(batch.source, batch.lengths, self.beam, self.length_penalty)
        for b, one in enumerate(found):
            source = batch.source[: int(batch.lengths[b]), b]
            memory, at = self.net.encode(source[:, None], batch.lengths[b : b + 1])
            inputs = source.new_tensor([self.spec.seed_token, *one.tokens])
            weights = self.net.decode(inputs[:, None], at, memory)[2][:, 0]
            reads = " ".join(
                f"{_shown(tokenizer.target, token)}←{_shown(tokenizer.source, int(source[j]))}"
                for token, j in zip(one.tokens, weights.argmax(-1).tolist(), strict=False)
            )
            said = tokenizer.decode(one.tokens)
            rows.append((batch.texts.sources[b], said, batch.texts.references[b], reads))
        note = "The first sentences of the validation split; each word with the source word that it attends to most."
        return TableSample(note, ("source", "translation", "reference", "attention"), tuple(rows))

    def samples(self, run: RunSource) -> Sequence[Sample]:
        """The sample, and the whole attention of its first sentences."""
        batch: PairBatch = run.data.batch("valid", range(min(MAPS, self.spec.pairs["valid"])))
        each = zip(batch.source.T, batch.lengths.tolist(), strict=True)
        maps = [attention_map(self, run.data.tokenizer, source[:length]) for source, length in each]
        return [*super().samples(run), *maps]

    def reading(self, run: RunSource, file: Path | None = None) -> Reading:
        """Sentence pairs, what encoder and decoder read, and the attention; see reading.py."""
        return read_pairs(self, run, file)

    def graph(self) -> GraphInterface:
        """The whole network, which is called again with the likeliest token behind the target; see graph.py."""
        return whole_graph(self.spec)

    def graph_parts(self) -> Mapping[str, GraphInterface]:
        """The encoder and one step of the decoder, which do the same work once."""
        return parts(self)

    def example_input(self, batch: int, steps: int) -> tuple[Tensor, ...]:
        """Random sentences of different lengths, and random targets [steps, batch]."""
        source, lengths = sentences(self.spec, batch, steps)
        generator = torch.Generator().manual_seed(batch)
        return source, lengths, torch.randint(self.spec.vocabulary, (steps, batch), generator=generator)


def _shown(tokenizer: Any, token: int) -> str:
    """The text of a token; `end` for the one that ends a sentence."""
    return "end" if token == tokenizer.seed_token else tokenizer.decode([token]).strip() or "␣"

"""Language modelling: windows of contiguous streams, the recurrent state carried from window to window.

Truncated back-propagation through time: the state enters a window detached. Training and evaluation carry
separate states; a stream whose `reset` is set starts from zero. Every scored token counts once, in float64;
the reported loss, perplexity and bits never contain label smoothing or a regulariser.

Letters: T time, B streams, V vocabulary. The loss of a window is the mean over its scored tokens, those of
all processes.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import torch
from torch import Tensor, nn

from gatelab.core.text.head import token_loss, token_nll
from gatelab.data.messages import Progress, bars
from gatelab.data.specs import IGNORE, TextSpec, TokenBatch
from gatelab.data.text.text_files import lines_of
from gatelab.tasks.base import Task, TaskOptions
from gatelab.tasks.contract import (
    GraphInterface,
    Method,
    Metric,
    RunSource,
    ScoredRow,
    TextSample,
    TokenScores,
)
from gatelab.tasks.distillation import Teacher
from gatelab.tasks.explanation.reading import Reading
from gatelab.tasks.metrics import TokenLoss
from gatelab.tasks.resume import State, columns, copied, detach, gather_ranks, reset_state
from gatelab.tasks.text.evaluation_rows import METHODS, SCORERS, tune_and_score
from gatelab.tasks.text.generation import Generation, begin, continuations, continuations_of_each
from gatelab.tasks.text.perplexity import HEAD_ELEMENTS, score_text
from gatelab.tasks.text.reading import read_text

if TYPE_CHECKING:
    import pandas as pd

BURN_IN_GROWTH = 8
"""How many times longer the burn-in is in the next pass over a split whose evaluation streams do not meet."""
VOCABULARY = ("data.vocabulary_size", "data.level")
"""Keys that decide what a token is: losses per token compare where they are the same."""
SAMPLE_TOKENS, SAMPLE_TEMPERATURE = 400, 0.8
LINES_AT_ONCE = 64
"""Lines of a file that are continued side by side."""


class LanguageModelTask(Task):
    """Train and evaluate a `gatelab.core.LanguageModel` (or anything with its `features` and `head`).

    Args:
        label_smoothing: share of the target's probability spread evenly over the vocabulary, in the objective
            only.
        activation_regularization: AR, times the mean square of what the head reads (Merity et al. 2017).
        temporal_regularization: TAR, times the mean square of the core's change from step to step (ibid.).
        stitch_tolerance: largest difference of states at a stitch of evaluation streams that passes without a
            warning.

    The other arguments are those of `Task`. Metrics: `loss` (nats per token), `ppl`, `bpc` (bits per
    character; bits per token where tokens stand for no text; at level "byte" `bpb`, bits per byte), `tokens`, and
    `stitch` with several evaluation streams. Where some tokens stand for words or characters outside the vocabulary,
    `unknown` is their share; there is no `bpc` of words then, and that of characters holds what it costs to tell which
    (`TextSpec.escape`).
    """

    spec_type: ClassVar[type[TextSpec]] = TextSpec
    unit: ClassVar[str] = "tokens"
    figures = (
        Metric("loss", unit="nats per token", same=VOCABULARY),
        Metric("ppl", "perplexity", same=VOCABULARY),
        Metric("bpc", "bits per character"),
        Metric("bpb", "bits per byte"),
        Metric("tokens", "scored tokens", better=None),
        Metric("unknown", "share of tokens outside the vocabulary", better=None),
        Metric("stitch", "difference of states where evaluation streams meet", better=None),
    )
    methods: ClassVar[Mapping[str, Method]] = METHODS
    taught_by = ("vocabulary", "level")
    metric: TokenLoss

    def __init__(
        self,
        net: nn.Module,
        *,
        label_smoothing: float = 0.0,
        activation_regularization: float = 0.0,
        temporal_regularization: float = 0.0,
        stitch_tolerance: float = 1e-3,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(net, **options)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1), not {label_smoothing}")
        for name, value in (
            ("activation_regularization", activation_regularization),
            ("temporal_regularization", temporal_regularization),
        ):
            if value < 0.0:
                raise ValueError(f"{name} must not be negative, not {value}")
        self.label_smoothing = label_smoothing
        self.activation_regularization = activation_regularization
        self.temporal_regularization = temporal_regularization
        self.stitch_tolerance = stitch_tolerance
        self.metric = TokenLoss(bits=self.spec.bits)
        self.stitches = Stitches()
        self._train_state: State = None
        self._eval_state: State = None
        self._core_output: Tensor | None = None
        if temporal_regularization:
            self.net.core.register_forward_hook(self._keep_core_output)

    @classmethod
    def why_without(cls, metric: str, spec: TextSpec) -> str | None:
        """A metric that these data do not have; see `Task`."""
        if metric in ("val/bpc", "val/bpb") and metric != f"val/{spec.bits}":
            return f"at data.level={spec.level} it is val/{spec.bits}; or take val/loss"
        if metric == "val/bpc" and spec.escape("valid") is None:
            return (
                f"{spec.unknown['valid']:,} validation tokens are outside the vocabulary, so there are no bits per "
                "character; take val/loss, or data.level=bpe, which expresses any text"
            )
        return None

    @classmethod
    def build_net(
        cls, net: Callable[..., nn.Module], core: Callable[..., nn.Module], spec: TextSpec
    ) -> nn.Module:
        """Call the network's factory with what the spec says: `net(vocab_size=V, core=core)`."""
        return net(vocab_size=spec.vocabulary, core=core)

    def count(self, batch: TokenBatch) -> int:
        """Return the batch's tokens, padding included."""
        return batch.inputs.numel()

    # training

    def train_loss(self, batch: TokenBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the objective, the summed NLL (nats) and the number of scored tokens of one window."""
        state = reset_state(self._train_state, batch.reset)
        features, state = self.net.features(batch.inputs, state)
        self._train_state = copied(state)
        targets = batch.targets.flatten()
        count = (targets != IGNORE).sum()
        rows = features.flatten(0, 1)
        if self.teacher is None:
            total, nll = token_loss(self.net.head, rows, targets, self.label_smoothing)
        else:
            total, nll = self._taught_loss(self.teacher, batch, rows, targets)
        # a window may hold padding only: its loss is zero, not 0/0
        objective = total / self.mean_count(count)
        if self.activation_regularization:
            objective = objective + self.activation_regularization * features.square().mean()
        if self.temporal_regularization and len(batch.inputs) > 1:
            assert self._core_output is not None
            change = self._core_output[1:] - self._core_output[:-1]
            objective = objective + self.temporal_regularization * change.square().mean()
        self._core_output = None
        return objective, nll, count

    def _taught_loss(
        self, teacher: Teacher, batch: TokenBatch, rows: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `token_loss`, from features [N, F], beside a teacher whose state is carried too."""
        with torch.no_grad():
            state = reset_state(teacher.state, batch.reset)
            own, state = teacher.task.net.features(batch.inputs, state)
            teacher.state = copied(state)
        return teacher.token_loss(self.net.head, rows, own.flatten(0, 1), targets, self.label_smoothing)

    def rate_scale(self, batch: TokenBatch) -> float:
        """A window of random length trains at a rate in proportion to it (Merity et al. 2018, section 4.1)."""
        return len(batch.inputs) / self.spec.random_window if self.spec.random_window else 1.0

    def _keep_core_output(self, core: nn.Module, args: Any, output: tuple[Tensor, State]) -> None:
        if core.training:
            self._core_output = output[0]

    # evaluation

    def begin_eval(self, split: str) -> None:
        """Start from a zero state."""
        super().begin_eval(split)
        self._eval_state = None
        self.stitches = Stitches()

    def eval_step(self, batch: TokenBatch) -> None:
        """Score one window; the head runs over a part of it at a time."""
        state = reset_state(self._eval_state, batch.reset)
        self.stitches.see(batch, state)
        features, state = self.net.features(batch.inputs, state)
        self._eval_state = copied(state)
        rows, targets = features.flatten(0, 1), batch.targets.flatten()
        size = max(1, HEAD_ELEMENTS // self.spec.vocabulary)
        for part, target in zip(rows.split(size), targets.split(size), strict=True):
            nll = token_nll(self.net.head, part, target)
            self.metric.update(nll.sum(dtype=torch.float64), (target != IGNORE).sum())

    def end_eval(self, split: str) -> dict[str, Tensor]:
        """Return the figures; warn where the streams' seams could have moved them."""
        figures = self._figures(self.metric, "valid" if split == "val" else split)
        stitch = self.stitches.largest(self._eval_state) if self._saw_everything(split) else None
        if stitch is not None:
            figures["stitch"] = stitch
            if stitch > self.stitch_tolerance:
                warnings.warn(
                    f"{split}: the states of neighbouring evaluation streams differ by {float(stitch):.2g} "
                    "where they meet: perplexity may depend on the number of streams. Raise data.burn_in, or "
                    "set data.eval_batch_size=1",
                    stacklevel=2,
                )
        self._eval_state = None
        return figures

    def _figures(self, metric: TokenLoss, split: str) -> dict[str, Tensor]:
        """The figures of what `metric` has summed, by the characters that the split's tokens stand for."""
        unknown = self.spec.unknown.get(split, 0)
        if unknown or self.spec.characters.get(split):
            escape = self.spec.escape(split)
            metric.characters_per_token = None if escape is None else self.spec.characters_per_token(split)
            metric.escape = escape or 0.0
        figures: dict[str, Tensor] = metric.compute()
        if unknown:
            figures["unknown"] = torch.tensor(unknown / self.spec.tokens[split], dtype=torch.float64)
        return figures

    def score_row(
        self, method: str, options: Mapping[str, Sequence[Any]], data: Any, split: str, progress: Progress
    ) -> ScoredRow:
        """Score one stream in order by a neural cache, dynamic evaluation, a temperature or MC dropout."""
        scorer = SCORERS[method](self.net, data, progress)
        found = tune_and_score(scorer, options, split)
        metric = TokenLoss()
        metric.update(torch.tensor(found.nll, dtype=torch.float64), found.tokens)
        figures = self._figures(metric, split)
        return ScoredRow(
            {name: float(value) for name, value in figures.items()}, found.parameters, found.tuned
        )

    def _saw_everything(self, split: str) -> bool:
        """Whether the evaluation went to the end of the streams (a limit on its batches cuts them short)."""
        trainer = self.trainer
        limit = trainer.limit_val_batches if split == "val" else trainer.limit_test_batches
        return not trainer.sanity_checking and isinstance(limit, float) and limit == 1.0

    def read_again(self, data: Any, split: str, metrics: Mapping[str, float]) -> bool:
        """Read text with a longer burn-in where the states of its streams do not meet within `stitch_tolerance`.

        Each stream begins earlier and earlier, at last at the beginning of the split: the score never depends on how
        many streams there are. (A trained GRU can hold on to a unit for thousands of tokens.)
        """
        if metrics.get("stitch", 0.0) <= self.stitch_tolerance:
            return False
        data.burn_in = BURN_IN_GROWTH * max(data.burn_in, 1)
        if data.burn_in >= self.spec.tokens[split]:
            data.eval_batch_size = 1
        return True

    # what the views ask for

    def commands(self) -> list[str]:
        """Text can be continued; symbols that stand for no text cannot."""
        return [] if self.spec.level == "symbol" else ['generate RUN --prompt "..."']

    def sample(self, run: RunSource) -> TextSample | None:
        """A text from nothing; None where the tokens stand for no text."""
        if run.tokenizer is None:
            return None
        options = Generation(tokens=SAMPLE_TOKENS, temperature=SAMPLE_TEMPERATURE)
        (text,) = self.generate(run, "", options)
        return TextSample(f"Written from nothing, at temperature {SAMPLE_TEMPERATURE}, seed 0.", text)

    def generate(
        self, run: RunSource, prompt: str, options: Generation, show: Callable[[str], None] | None = None
    ) -> list[str]:
        """Return the prompt and its continuations, and warn of what the vocabulary lacks; see `Task.generate`."""
        tokenizer = run.tokenizer
        if tokenizer is None:
            raise ValueError(
                "a language model of symbols, which stand for no text: there is nothing to generate"
            )
        begun, start = begin(tokenizer, prompt)
        if show is not None:
            show(begun)
        return [begun + text for text in continuations(self.net, tokenizer, start, options, show)]

    def perplexity(
        self,
        run: RunSource,
        text: Iterable[bytes],
        *,
        window: int = 256,
        name: str = "the text",
        each: Callable[[TokenScores], None] | None = None,
    ) -> dict[str, float]:
        """Return `loss`, `ppl`, `bpc` where there is one, `tokens` and `unknown`; see `Task.perplexity`."""
        if run.tokenizer is None:
            raise ValueError("a language model of symbols, which stand for no text: there is none to score")
        return score_text(self.net, run.tokenizer, text, window=window, name=name, each=each)

    def predict(self, run: RunSource, file: Path) -> "pd.DataFrame":
        """Continue every line of a text file."""
        import pandas as pd

        if run.tokenizer is None:
            raise ValueError("a language model of symbols, which stand for no text: it continues none")
        if not (prompts := lines_of(file, pages=True)):
            raise ValueError("the file is empty; write a line to continue")
        texts = []
        with bars() as progress:
            tick = progress("lines", len(prompts))
            for first in range(0, len(prompts), LINES_AT_ONCE):
                begun = [begin(run.tokenizer, line) for line in prompts[first : first + LINES_AT_ONCE]]
                starts = [start for _, start in begun]
                added = continuations_of_each(self.net, run.tokenizer, starts, Generation())
                texts += [text + more for (text, _), more in zip(begun, added, strict=True)]
                tick(len(begun))
        return pd.DataFrame({"prompt": prompts, "text": texts})

    def reading(self, run: RunSource, file: Path | None = None) -> Reading:
        """Streams of text, with line, sentence, word, quotes, brackets as probes; see reading.py."""
        return read_text(self.net, run, file)

    def graph(self) -> GraphInterface:
        """Tokens [T, B] and state in, logits [T, B, V] and state out."""
        states = self.example_input(1, 1)[1:]
        names = ("state",) if len(states) == 1 else ("state_h", "state_c")
        return GraphInterface.of_steps(
            {"tokens": ("time", "batch")},
            {"logits": ("time", "batch", self.spec.vocabulary)},
            dict(zip(names, states, strict=True)),
            free_time=True,
        )

    def example_input(self, batch: int, steps: int) -> tuple[Tensor, ...]:
        """Random tokens [steps, batch], and the state after eight others."""
        generator = torch.Generator().manual_seed(batch * 1000 + steps)
        tokens = torch.randint(self.spec.vocabulary, (steps + 8, batch), generator=generator)
        state = self.net(tokens[:8])[1]
        return (tokens[8:], *(state if isinstance(state, tuple) else (state,)))

    def use_graph(self, run: Callable[[Sequence[Tensor]], Sequence[Tensor]], steps: int) -> bool:
        """A graph of one step reads windows of any length."""
        if steps == 1:
            self.net = Stepwise(run, self.example_input(1, 1)[1:])
        return steps == 1

    # checkpoints

    def carried(self) -> dict[str, Any]:
        """Add the recurrent state of this process' streams, and a teacher's."""
        cpu = torch.device("cpu")
        found = {**super().carried(), "state": detach(self._train_state, cpu)}
        if self.teacher is not None:
            found["teacher_state"] = detach(self.teacher.state, cpu)
        return found

    def carry_on(self, carried: dict[str, Any]) -> None:
        """Take up the recurrent state too."""
        super().carry_on(carried)
        self._train_state = carried["state"]
        if self.teacher is not None:
            self.teacher.state = carried["teacher_state"]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Bring a state that was read from a checkpoint to the device."""
        super().on_train_batch_start(batch, batch_idx)
        self._train_state = detach(self._train_state, self.device)
        if self.teacher is not None:
            self.teacher.state = detach(self.teacher.state, self.device)


class Stepwise(nn.Module):
    """A language model that an exported graph of one step computes; its features are the logits.

    Args:
        run: (tokens [1, B], state...) -> (logits [1, B, V], state...).
        like: a state of one stream, whose shapes those of B streams have.
    """

    def __init__(self, run: Callable[[Sequence[Tensor]], Sequence[Tensor]], like: Sequence[Tensor]) -> None:
        super().__init__()
        self.run, self.like, self.head = run, like, nn.Identity()

    def features(self, tokens: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Logits [T, B, V] of tokens [T, B], and the state after."""
        if state is None:
            state = tuple(part.new_zeros(len(part), tokens.shape[1], *part.shape[2:]) for part in self.like)
        carried: Sequence[Tensor] = (state,) if isinstance(state, Tensor) else state
        found = []
        for step in tokens.split(1):
            logits, *carried = self.run((step, *carried))
            found.append(logits)
        return torch.cat(found), carried[0] if len(carried) == 1 else tuple(carried)


class Stitches:
    """The certificate that evaluation in several streams gives what one stream would: states compared at the seams.

    Stream i > 0 of an evaluation begins with a burn-in that is not scored, and at its end has read exactly the
    tokens that stream i-1 ends with (`gatelab.data.text.streams.eval_streams`). If the two states agree there, the
    burn-in was long enough: the perplexity does not depend on the number of streams. `see` is told of every window
    before it is processed and remembers each stream's state at the end of its burn-in.
    """

    def __init__(self) -> None:
        self._windows = 0
        self._started: Tensor | None = None
        self._after_burn_in: Tensor | None = None
        self._broken = False

    def see(self, batch: TokenBatch, state: State) -> None:
        """Look at a window and the state [L, B, H] that enters it."""
        self._windows += 1
        if self._broken or (self._windows > 1 and self._started is not None and bool(self._started.all())):
            return
        scored = (batch.targets != IGNORE).any(0)
        if self._started is None:
            self._started = torch.zeros_like(scored)
        if self._windows > 1 and (len(scored) != len(self._started) or bool(batch.reset.any())):
            self._broken = True  # streams that start anew in the middle have no seams
            return
        now = columns(state)
        if now is not None and bool((scored & ~self._started).any()):
            kept = torch.full_like(now, torch.nan) if self._after_burn_in is None else self._after_burn_in
            self._after_burn_in = torch.where((scored & ~self._started)[:, None], now, kept)
        self._started |= scored

    def largest(self, last: State) -> Tensor | None:
        """Return the largest difference of states over all seams, or None without seams; a collective call.

        `last` is the state after the streams' last window. The figure is a float64 scalar in the state's own
        unit (a GRU's state lies in [-1, 1]).
        """
        mine = {"end": columns(last), "start": self._after_burn_in}
        ranks = gather_ranks({name: None if rows is None else rows.cpu() for name, rows in mine.items()})
        ends = [rank["end"] for rank in ranks if rank["end"] is not None]
        starts = [
            torch.full_like(rank["end"], torch.nan) if rank["start"] is None else rank["start"]
            for rank in ranks
            if rank["end"] is not None
        ]
        if self._broken or not ends or sum(map(len, ends)) < 2:
            return None
        difference = (torch.cat(starts)[1:] - torch.cat(ends)[:-1]).abs().max().to(torch.float64)
        return None if bool(difference.isnan()) else difference

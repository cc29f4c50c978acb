"""A recurrent language model.

The model is embedding, recurrent core and output layer; time first, state in and state out.

It returns logits and knows nothing of losses, windows or corpora. Tied weights as in Press and Wolf 2017
(arXiv:1608.05859); dropout on the embeddings and on the core's output as in Zaremba et al. 2014
(arXiv:1409.2329), or all of Merity et al. 2018 (`regularization.py`, `stack.py`). `sampling.py` draws text from it.

Dimensions: T time, B batch, V vocabulary, E embedding, H the core's output.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from gatelab.core.contract import core_hidden_size, make_core
from gatelab.core.regularization import (
    Start,
    check_probability,
    drop_weights,
    dropout,
    embed,
    start_gates,
)
from gatelab.core.stack import stack
from gatelab.core.text.head import AdaptiveHead

INIT_RANGE = 0.1


class LanguageModel(nn.Module):
    """Predict the next token: `model(tokens [T, B], state) -> (logits [T, B, V], state)`.

    Args:
        vocab_size: V.
        core: makes the recurrent core (see `Core`) when called as `core(input_size=E)`, for instance
            `functools.partial(GRU, hidden_size=200, num_layers=2)`. It must be time-major and run forward
            only: a reverse direction would see the tokens that are to be predicted.
        embedding_size: E; None takes the core's hidden size.
        tied: the output layer shares the embedding matrix. When E differs from the core's output size a
            bias-free projection to E comes before it.
        cutoffs: an adaptive softmax with these clusters, see `AdaptiveHead`; it cannot be tied.
        layer_sizes: the hidden size of each layer, in place of the core's one.
        last_as_embedding: the last layer is as wide as the embedding, so that tied weights need no projection.
        dropout: on the embeddings and on the core's output.
        input_dropout, output_dropout: the same where they differ; None: `dropout`.
        hidden_dropout: between the layers; None: the core's own.
        locked_dropout: each of these draws one mask for all steps of a window.
        embedding_dropout: share of the vocabulary that is dropped in a window.
        weight_drop, weight_drop_rows: share of the recurrent matrices that is dropped in a window; of "all" rows or
            of the "candidate"'s.
        gate_start, longest_dependency, keep_bias: the biases that training starts from, see `start_gates`.

    The options of regularisation are explained in `regularization.py`, with their papers.
    """

    of_tokens: ClassVar[dict[str, str]] = {"embedding": "", "head": ""}  # see weights/transfer.py

    def __init__(
        self,
        vocab_size: int,
        core: Callable[..., Any],
        *,
        embedding_size: int | None = None,
        tied: bool = True,
        cutoffs: Sequence[int] | None = None,
        layer_sizes: Sequence[int] | None = None,
        last_as_embedding: bool = False,
        dropout: float = 0.0,
        input_dropout: float | None = None,
        output_dropout: float | None = None,
        hidden_dropout: float | None = None,
        locked_dropout: bool = False,
        embedding_dropout: float = 0.0,
        weight_drop: float = 0.0,
        weight_drop_rows: Literal["all", "candidate"] = "all",
        gate_start: Start | None = None,
        longest_dependency: int = 100,
        keep_bias: float | None = None,
    ) -> None:
        super().__init__()
        if vocab_size <= 0:
            raise ValueError(f"vocab_size must be greater than zero, got {vocab_size}")
        if tied and cutoffs is not None:
            raise ValueError("an adaptive softmax (cutoffs) cannot be tied to the embedding: give tied=False")
        self.vocab_size, self.tied, self.locked = vocab_size, tied, locked_dropout
        self.dropout = check_probability("dropout", dropout)
        self.input_dropout = self._or_dropout("input_dropout", input_dropout)
        self.output_dropout = self._or_dropout("output_dropout", output_dropout)
        self.embedding_dropout = check_probability("embedding_dropout", embedding_dropout)
        self.embedding_size = core_hidden_size(core) if embedding_size is None else embedding_size
        self.embedding = nn.Embedding(vocab_size, self.embedding_size)
        self.core = self._core(core, layer_sizes, last_as_embedding, hidden_dropout)
        if getattr(self.core, "bidirectional", False):
            raise ValueError(
                "the core of a LanguageModel must not be bidirectional: it would see the targets"
            )
        start_gates(self.core, gate_start, keep_bias=keep_bias, longest=longest_dependency)
        if check_probability("weight_drop", weight_drop):
            drop_weights(self.core, weight_drop, weight_drop_rows)
        width = self.core.output_size
        self.projection: nn.Linear | None = None
        if tied and width != self.embedding_size:
            self.projection = nn.Linear(width, self.embedding_size, bias=False)
        self.head: nn.Module
        if cutoffs is not None:
            self.head = AdaptiveHead(width, vocab_size, cutoffs)
        else:
            self.head = nn.Linear(self.embedding_size if tied else width, vocab_size)
            if tied:
                self.head.weight = self.embedding.weight
        self.reset_parameters()

    def _or_dropout(self, name: str, value: float | None) -> float:
        return self.dropout if value is None else check_probability(name, value)

    def _core(
        self,
        core: Callable[..., Any],
        sizes: Sequence[int] | None,
        last_as_embedding: bool,
        hidden_dropout: float | None,
    ) -> Any:
        """The core itself, or a `Stack` of one-layer cores where it cannot do what is asked by itself."""
        options = getattr(core, "keywords", {})
        layers = len(sizes) if sizes is not None else int(options.get("num_layers", 1))
        if sizes is not None and last_as_embedding:
            raise ValueError("give layer_sizes or last_as_embedding, not both")
        if hidden_dropout is not None:
            check_probability("hidden_dropout", hidden_dropout)
        between = layers > 1 and (self.locked or hidden_dropout is not None)
        if sizes is None and not last_as_embedding and not between:
            return make_core(core, self.embedding_size, "LanguageModel", None, None, reset_mask=None)
        if sizes is None:
            sizes = [core_hidden_size(core)] * layers
        if last_as_embedding:
            sizes = [*sizes[:-1], self.embedding_size]
        if not sizes or min(sizes) < 1:
            raise ValueError(
                f"layer_sizes must name at least one layer of at least one unit, got {list(sizes)}"
            )
        p = float(options.get("dropout", 0.0)) if hidden_dropout is None else hidden_dropout
        return stack(core, self.embedding_size, sizes, p, locked=self.locked)

    def reset_parameters(self) -> None:
        """Embedding and head from uniform(-0.1, 0.1), head bias zero; core and adaptive softmax keep their values."""
        nn.init.uniform_(self.embedding.weight, -INIT_RANGE, INIT_RANGE)
        if not isinstance(self.head, nn.Linear):
            return
        if not self.tied:
            nn.init.uniform_(self.head.weight, -INIT_RANGE, INIT_RANGE)
        nn.init.zeros_(self.head.bias)

    def features(
        self, tokens: Tensor, state: Any = None, *, reset_mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Everything before the head: tokens [T, B] -> ([T, B, F], state); F is the head's input size."""
        if tokens.dim() != 2:
            raise ValueError(f"tokens must be [T, B], got shape {list(tokens.shape)}")
        x = embed(self.embedding, tokens, self.embedding_dropout, self.training)
        x = dropout(x, self.input_dropout, self.training, locked=self.locked)
        y, state = self.core(x, state, reset_mask=reset_mask)
        y = dropout(y, self.output_dropout, self.training, locked=self.locked)
        return (y if self.projection is None else self.projection(y)), state

    def forward(
        self, tokens: Tensor, state: Any = None, *, reset_mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Return logits [T, B, V] and the core's state after the last token.

        `reset_mask` [T, B] bool: where True the state is zero before that token is read.
        """
        y, state = self.features(tokens, state, reset_mask=reset_mask)
        return self.head(y), state

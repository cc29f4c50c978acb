"""A recurrent classifier: embedding or channels, recurrent core in one or both directions, pooling over time, a head.

Attention is that of Yang et al. 2016 ("Hierarchical Attention Networks", section 2.2); last, mean and maximum side by
side are those of ULMFiT (Howard and Ruder 2018, arXiv:1801.06146); a query from the middle is that of the published
keyword spotters (de Andrade et al. 2018, arXiv:1808.08929; with several heads Rybakov et al. 2020, arXiv:2005.06720).
What lies behind a sequence's end reaches nothing.

Dimensions: T time, B batch, V vocabulary, C channels, E the core's input, F the core's output, N classes, A heads.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from gatelab.core.contract import core_hidden_size, make_core
from gatelab.core.labels.convolutions import FrameConvolutions
from gatelab.core.labels.n_grams import NGramMap
from gatelab.core.regularization import check_probability, drop_weights, dropout, embed
from gatelab.core.unroll import padding

Pooling = Literal["last", "mean", "max", "concat", "attention", "query"]


class SequenceClassifier(nn.Module):
    """Tell the classes of sequences: `model(inputs, lengths=None) -> logits [B, N]`.

    The inputs are token ids [B, T] or, where `vocab_size` is 0, channels [B, T, C]; lengths [B] are the steps of each
    sequence, at least 1, None: all T.

    Args:
        vocab_size: V; 0: the inputs are channels.
        classes: N.
        core: makes the recurrent core (see `Core`) when called as `core(input_size=E)`, which must be time-major and
            take `lengths=`.
        channels: C, where `vocab_size` is 0.
        embedding_size: E of token ids, None: the core's hidden size; of channels, the width of a linear map before the
            core, None: the core reads the channels themselves.
        bidirectional: the core reads in both directions.
        pooling: of the core's outputs [T, B, F]:
            last: the one that has seen every step, of each direction;
            mean, max: over the steps;
            concat: last, mean and max side by side;
            attention: a mean whose weights are softmax(v . tanh(W y)), one for each of the `heads`, side by side;
            query: the same with softmax(q . y), q = W m of the output m in the middle.
        heads: A, of attention and query.
        convolutions: filters of layers that convolve the channels over time before all else (`FrameConvolutions`);
            None: none. convolution_width: steps that each filter reads.
        head_size: units of a layer with a ReLU between pooling and logits; None: none.
        n_grams: tokens of the longest n-grams whose linear map is added to the logits (`NGramMap`); 0: none.
        n_gram_dropout: share of them that is dropped.
        dropout: on the core's input and on what is pooled. (Between the core's layers it is the core's own.)
        input_dropout, output_dropout: the same where they differ; None: `dropout`.
        locked_dropout: the input's draws one mask for all steps.
        embedding_dropout: share of the vocabulary that is dropped in a batch.
        weight_drop: share of the recurrent matrices that is dropped in a batch.

    The options of regularisation are explained in `regularization.py`, with their papers.

    Raises ValueError where they do not fit together.
    """

    of_tokens: ClassVar[dict[str, str]] = {"embedding": ""}  # see weights/transfer.py

    def __init__(
        self,
        vocab_size: int,
        classes: int,
        core: Callable[..., Any],
        *,
        channels: int = 0,
        embedding_size: int | None = None,
        bidirectional: bool = False,
        pooling: Pooling = "concat",
        heads: int = 1,
        convolutions: Sequence[int] | None = None,
        convolution_width: int = 5,
        head_size: int | None = None,
        n_grams: int = 0,
        n_gram_dropout: float = 0.0,
        dropout: float = 0.0,
        input_dropout: float | None = None,
        output_dropout: float | None = None,
        locked_dropout: bool = False,
        embedding_dropout: float = 0.0,
        weight_drop: float = 0.0,
    ) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling must be one of {', '.join(get_args(Pooling))}, got {pooling!r}")
        if (vocab_size > 0) == (channels > 0):
            raise ValueError(f"give vocab_size or channels, got vocab_size={vocab_size}, channels={channels}")
        sizes = {"classes": classes, "embedding_size": embedding_size, "heads": heads, "head_size": head_size}
        if wrong := [f"{name}={n}" for name, n in sizes.items() if n is not None and n < 1]:
            raise ValueError(f"{', '.join(wrong)}: give at least 1")
        if heads > 1 and pooling not in ("attention", "query"):
            raise ValueError(
                f"heads={heads} are of pooling=attention or query; leave them out with pooling={pooling}"
            )
        self.pooling, self.locked = pooling, locked_dropout
        shared = check_probability("dropout", dropout)
        self.input_dropout, self.output_dropout = (
            shared if p is None else check_probability(name, p)
            for name, p in (("input_dropout", input_dropout), ("output_dropout", output_dropout))
        )
        self.embedding_dropout = check_probability("embedding_dropout", embedding_dropout)
        if channels and embedding_dropout:
            raise ValueError("embedding_dropout drops words, and the inputs are channels: take input_dropout")
        if convolutions and not channels:
            raise ValueError(
                f"convolutions={list(convolutions)} read channels, and the inputs are tokens: leave them out"
            )
        self.convolutions = FrameConvolutions(convolutions, convolution_width) if convolutions else None
        channels *= convolutions[-1] if convolutions else 1
        self.embedding: nn.Embedding | nn.Linear | None = None
        if vocab_size:
            embedding_size = embedding_size or core_hidden_size(core)
            self.embedding = nn.Embedding(vocab_size, embedding_size)
        elif embedding_size:
            self.embedding = nn.Linear(channels, embedding_size)
        make = partial(core, bidirectional=True) if bidirectional else core
        self.core = make_core(make, embedding_size or channels, "SequenceClassifier", None, lengths=None)
        if check_probability("weight_drop", weight_drop):
            drop_weights(self.core, weight_drop)
        width = self.core.output_size
        self.attention: Any = None
        if pooling == "attention":
            scores = nn.Linear(width, heads, bias=False)
            self.attention = nn.Sequential(nn.Linear(width, width), nn.Tanh(), scores)
        elif pooling == "query":
            self.attention = nn.Linear(width, heads * width)
        width *= {"concat": 3, "attention": heads, "query": heads}.get(pooling, 1)
        layers: list[nn.Module] = [nn.Linear(width, head_size), nn.ReLU()] if head_size else []
        self.head = nn.Sequential(*layers, nn.Linear(head_size or width, classes))
        if channels and n_grams:
            raise ValueError(f"n_grams={n_grams} are of tokens, and the inputs are channels: leave them out")
        if n_gram_dropout and not n_grams:
            raise ValueError(
                f"n_gram_dropout={n_gram_dropout} is of n_grams: give n_grams=2, or leave it out"
            )
        self.n_grams = NGramMap(classes, n_grams, dropout=n_gram_dropout) if n_grams else None

    def features(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The core's outputs [T, B, F], zero behind a sequence's end."""
        if isinstance(self.embedding, nn.Embedding):
            if inputs.dim() != 2:
                raise ValueError(f"token ids must be [B, T], got shape {list(inputs.shape)}")
            x = embed(self.embedding, inputs.T, self.embedding_dropout, self.training)
        else:
            if inputs.dim() != 3:
                raise ValueError(f"channels must be [B, T, C], got shape {list(inputs.shape)}")
            x = inputs.transpose(0, 1)
            x = x if self.convolutions is None else self.convolutions(x, lengths)
            x = x if self.embedding is None else self.embedding(x)
        x = dropout(x, self.input_dropout, self.training, locked=self.locked)
        y: Tensor = self.core(x, lengths=lengths)[0]
        return y

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return logits [B, N]."""
        y = self.features(inputs, lengths)
        pooled = dropout(self.pooled(y, lengths), self.output_dropout, self.training)
        logits: Tensor = self.head(pooled)
        return logits if self.n_grams is None else logits + self.n_grams(inputs, lengths)

    def pooled(self, y: Tensor, lengths: Tensor | None = None) -> Tensor:
        """One vector [B, ...] of each sequence from the core's outputs y [T, B, F], zero behind its end."""
        over = None if lengths is None else padding(lengths, len(y)).unsqueeze(-1)
        if self.pooling in ("attention", "query"):
            weights = self.weights(y, lengths)  # [T, B, A]
            return torch.einsum("tba,tbf->baf", weights, y).flatten(1)
        parts = []
        if self.pooling in ("last", "concat"):
            parts.append(self._last(y, lengths))
        if self.pooling in ("mean", "concat"):
            # a graph with time free would keep the steps of the sequence that it was traced with
            parts.append(y.mean(0) if lengths is None else y.sum(0) / lengths.unsqueeze(-1).to(y.dtype))
        if self.pooling in ("max", "concat"):
            parts.append((y if over is None else y.masked_fill(over, -torch.inf)).amax(0))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def weights(self, y: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The weights of attention [T, B, A], exactly 0 behind a sequence's end."""
        if self.pooling == "query":
            # shape[0], not len: a graph with time free would keep the middle of the sequence that it was traced with
            middle = y[y.shape[0] // 2] if lengths is None else self._at(y, lengths // 2)
            queries = self.attention(middle).unflatten(-1, (-1, y.shape[-1]))  # [B, A, F]
            scores = torch.einsum("tbf,baf->tba", y, queries)
        else:
            scores = self.attention(y)
        if lengths is not None:
            scores = scores.masked_fill(padding(lengths, len(y)).unsqueeze(-1), -torch.inf)
        return scores.softmax(0)

    @staticmethod
    def _at(y: Tensor, steps: Tensor) -> Tensor:
        """The outputs [B, F] at a step [B] of each sequence."""
        return y[steps, torch.arange(y.shape[1], device=y.device)]

    def _last(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        """The output that has seen every step [B, F]: forward the last one, of the reverse direction the first."""
        if lengths is None:
            last = y[-1]
        else:
            last = self._at(y, lengths - 1)
        if not getattr(self.core, "bidirectional", False):
            return last
        hidden = y.shape[-1] // 2
        return torch.cat((last[:, :hidden], y[0, :, hidden:]), dim=-1)

"""A recurrent encoder and decoder with attention.

The encoder reads the source in both directions; the decoder is a language model of the target that attends to the
encoder's outputs, the annotations (Bahdanau et al. 2015, arXiv:1409.0473). By default it is that of Luong et al. 2015
(arXiv:1508.04025) without input feeding: the recurrence does not wait for the attention, so it runs over the whole
target in one call and attention is two batched products.

    s_t = core(y_{t-1}, s_{t-1})                 with input feeding core([y_{t-1}; f_{t-1}], s_{t-1})
    c_t = attention of s_t                       see attention.py
    f_t = tanh(W [c_t; s_t])                     what the head reads

It returns logits and knows nothing of losses, vocabularies or corpora; `search.py` finds translations with it.

Dimensions: B sentences, S source steps, T target steps, V target vocabulary, E embedding, H the decoder's state,
W features that the head reads; N = K*B columns where K hypotheses of each sentence stand side by side, those of the
first hypothesis of every sentence first.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from gatelab.core.contract import core_hidden_size, make_core
from gatelab.core.regularization import check_probability, dropout, embed
from gatelab.core.text.language_model import INIT_RANGE
from gatelab.core.translation.attention import Attention, Memory, Score
from gatelab.core.unroll import padding


class Decoding(NamedTuple):
    """Where a decoder stands.

    core: its recurrent state, tensors [L, N, H]; fed: the features of the last step [1, N, W] with input feeding, else
    None.
    """

    core: Any
    fed: Tensor | None

    def columns(self, change: Callable[[Tensor], Tensor]) -> "Decoding":
        """Return the state with every tensor [*, N, *] changed alike."""
        core = tuple(map(change, self.core)) if isinstance(self.core, tuple) else change(self.core)
        return Decoding(core, None if self.fed is None else change(self.fed))


class Translator(nn.Module):
    """Translate: `model(source [S, B], lengths [B], target [T, B]) -> logits [T, B, V]` of the tokens after `target`.

    Args:
        vocab_size: V.
        core: makes the recurrent core (see `Core`), for instance `functools.partial(GRU, hidden_size=256)`. The encoder
            calls it with `bidirectional=True`, and its core must take `lengths`.
        source_vocab_size: of the source; None: both sides have one vocabulary, and share their embeddings.
        embedding_size: E; None takes the decoder's hidden size.
        tied: the output layer is the target's embedding matrix (Press and Wolf 2017, arXiv:1608.05859); with a joint
            vocabulary all three are one.
        attention: "dot" or "general" (Luong et al. 2015), "additive" (Bahdanau et al. 2015).
        input_feeding: what the head has read enters the next step (Luong et al. 2015, section 3.3), as Bahdanau's
            context does. The decoder then goes step by step, several times slower.
        encoder_size: hidden units of the encoder in each direction; None: as many as the decoder's.
        bidirectional: whether the encoder reads in both directions.
        dropout: on the embeddings, and on what the head reads.
        embedding_dropout: share of the words that is dropped from a batch (Gal and Ghahramani 2016, arXiv:1512.05287).

    Raises ValueError or TypeError, naming the argument, on what does not fit.
    """

    grows: ClassVar[bool] = (
        False  # attention multiplies a state with another one, so that copies would count twice
    )
    of_tokens: ClassVar[dict[str, str]] = {  # see weights/transfer.py
        "embedding": "target",
        "source_embedding": "source",
        "head": "target",
    }

    def __init__(
        self,
        vocab_size: int,
        core: Callable[..., Any],
        *,
        source_vocab_size: int | None = None,
        embedding_size: int | None = None,
        tied: bool = True,
        attention: Score = "general",
        input_feeding: bool = False,
        encoder_size: int | None = None,
        bidirectional: bool = True,
        dropout: float = 0.0,
        embedding_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = {"vocab_size": vocab_size, "source_vocab_size": source_vocab_size}
        for name, size in (sizes | {"embedding_size": embedding_size, "encoder_size": encoder_size}).items():
            if size is not None and size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.vocab_size, self.tied, self.input_feeding = vocab_size, tied, input_feeding
        self.dropout = check_probability("dropout", dropout)
        self.embedding_dropout = check_probability("embedding_dropout", embedding_dropout)
        width = core_hidden_size(core) if embedding_size is None else embedding_size
        self.embedding = nn.Embedding(vocab_size, width)
        self.source_embedding = self.embedding
        if source_vocab_size is not None:
            self.source_embedding = nn.Embedding(source_vocab_size, width)
        options: dict[str, Any] = {"bidirectional": True} if bidirectional else {}
        if encoder_size is not None:
            options["hidden_size"] = encoder_size
        self.encoder: Any = make_core(
            partial(core, **options), width, "Translator's encoder", None, None, lengths=None
        )
        features = width if tied else core_hidden_size(core)
        fed = features if input_feeding else 0
        self.core: Any = make_core(core, width + fed, "Translator", None, None)
        if getattr(self.core, "bidirectional", False):
            raise ValueError("the decoder must not be bidirectional: leave model.bidirectional out")
        self.bridge = nn.Linear(self.encoder.output_size, self.core.hidden_size)
        self.attention = Attention(attention, self.core.output_size, self.encoder.output_size)
        self.combine = nn.Linear(self.encoder.output_size + self.core.output_size, features, bias=False)
        self.head = nn.Linear(features, vocab_size)
        if tied:
            self.head.weight = self.embedding.weight
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embeddings and head from uniform(-0.1, 0.1), the head's bias zero; the rest keeps its values."""
        for weight in {self.embedding.weight, self.source_embedding.weight, self.head.weight}:
            nn.init.uniform_(weight, -INIT_RANGE, INIT_RANGE)
        nn.init.zeros_(self.head.bias)

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Memory, Decoding]:
        """Read source [S, B], each sentence to its length [B]; return its memory and where the decoder begins."""
        x = embed(self.source_embedding, source, self.embedding_dropout, self.training)
        x = dropout(x, self.dropout, self.training)
        annotations, state = self.encoder(x, None, lengths=lengths)
        memory = self.attention.memory(annotations, padding(lengths, len(source)).T)
        fed = x.new_zeros(1, source.shape[1], self.head.in_features) if self.input_feeding else None
        return memory, Decoding(self._begin(state), fed)

    def _begin(self, state: Any) -> Any:
        """The decoder's first state [L, B, H] from the encoder's last one [L*dirs, B, F], layer by layer."""
        if isinstance(state, tuple):
            return tuple(map(self._begin, state))
        directions = 2 if getattr(self.encoder, "bidirectional", False) else 1
        of_layers = state.unflatten(0, (-1, directions)).transpose(1, 2).flatten(2)
        return torch.tanh(self.bridge(of_layers))

    def decode(self, tokens: Tensor, at: Decoding, memory: Memory) -> tuple[Tensor, Decoding, Tensor]:
        """Read target tokens [T, N]; return what the head reads [T, N, W], the state, and the weights [T, N, S]."""
        x = embed(self.embedding, tokens, self.embedding_dropout, self.training)
        x = dropout(x, self.dropout, self.training)
        if at.fed is None:
            states, core = self.core(x, at.core)
            features, weights = self._attend(states, memory)
            return features, Decoding(core, None), weights
        core, fed, found = at.core, at.fed, []
        for step in x.unsqueeze(1):
            states, core = self.core(torch.cat((step, fed), -1), core)
            fed, weights = self._attend(states, memory)
            found.append((fed, weights))
        features, weights = (torch.cat(parts) for parts in zip(*found, strict=True))
        return features, Decoding(core, fed), weights

    def _attend(self, states: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Features [T, N, W] and weights [T, N, S] of states [T, N, H]; hypotheses of a sentence read one memory."""
        steps, columns = states.shape[:2]
        context, weights = self.attention(
            states.reshape(-1, memory.values.shape[0], states.shape[-1]), memory
        )
        context = context.reshape(steps, columns, -1)
        features = torch.tanh(self.combine(torch.cat((context, states), -1)))
        return dropout(features, self.dropout, self.training), weights.reshape(steps, columns, -1)

    def features(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Everything before the head: [T, B, W]."""
        memory, at = self.encode(source, lengths)
        return self.decode(target, at, memory)[0]

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Return the logits [T, B, V] of the token after each of `target`, which begins with the seed token."""
        logits: Tensor = self.head(self.features(source, lengths, target))
        return logits

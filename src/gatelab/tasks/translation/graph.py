"""A translator as graphs of named tensors: the whole network, its encoder, and one step of its decoder.

The whole network is called again for every token of a translation; encoder and step do the same work once. A program
that translates runs the encoder, then the step with what that gave, choosing a token each time, until the end.

Letters: S source steps, T target steps, B sentences, V vocabulary, M features of an annotation, H of its key.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gatelab.core.translation.attention import Memory
from gatelab.core.translation.translator import Decoding
from gatelab.core.unroll import padding
from gatelab.data.pairs.spec import PairSpec
from gatelab.tasks.contract import GraphInterface

STEPS = 40
"""S and T of a graph that walks a fixed number of steps."""


def whole_graph(spec: PairSpec) -> GraphInterface:
    """Source [S, B], its lengths and the target so far [S, B] in, logits [S, B, V] of the tokens after it out."""
    return GraphInterface(
        inputs={"source": ("time", "batch"), "lengths": ("batch",), "target": ("time", "batch")},
        outputs={"logits": ("time", "batch", spec.vocabulary)},
        steps=STEPS,
        usual_steps=STEPS,
        fixed_time=True,
    )


class Encode(nn.Module):
    """The encoder: source [S, B] and lengths [B] -> values [B, S, M], keys [B, S, H] and the decoder's first state."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Read the source x; the state is the lengths alone."""
        memory, at = self.net.encode(x, state[0])
        return memory.values, memory.keys, *_pieces(at)


class Step(nn.Module):
    """A step of the decoder: a token [1, B], the lengths, what `Encode` gave -> logits [1, B, V], the state after."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Read the token x; the state is the lengths, values, keys, and the decoder's own, as `Encode` names them."""
        lengths, values, keys, *core = state
        fed = core.pop() if self.net.input_feeding else None
        at = Decoding(core[0] if len(core) == 1 else tuple(core), fed)
        memory = Memory(values, keys, padding(lengths, values.shape[1]).T)
        features, after, _ = self.net.decode(x, at, memory)
        return self.net.head(features), *_pieces(after)


def _pieces(at: Decoding) -> list[Tensor]:
    """The tensors of a decoder's state, the features that are fed the last."""
    core = list(at.core) if isinstance(at.core, tuple) else [at.core]
    return core if at.fed is None else [*core, at.fed]


def parts(task: Any) -> dict[str, GraphInterface]:
    """The encoder and one step of the decoder; see `Encode` and `Step`."""
    spec, net = task.spec, task.net
    with torch.no_grad():
        memory, at = net.encode(*sentences(spec, 1, 2))
    pieces = _pieces(at)
    names = ["state"] if len(pieces) == 1 + net.input_feeding else ["state_h", "state_c"]
    names += ["fed"] if net.input_feeding else []
    shapes = {name: (len(piece), "batch", piece.shape[-1]) for name, piece in zip(names, pieces, strict=True)}
    kept = {name: ("batch", "time", getattr(memory, name).shape[-1]) for name in ("values", "keys")}

    def reached(batch: int, steps: int) -> tuple[Tensor, ...]:
        source, lengths = sentences(spec, batch, steps)
        token = torch.randint(spec.vocabulary, (1, batch), generator=torch.Generator().manual_seed(batch))
        return token, lengths, *Encode(task.net)(source, lengths)

    encoder = GraphInterface(
        inputs={"source": ("time", "batch"), "lengths": ("batch",)},
        outputs={**kept, **shapes},
        steps=STEPS,
        usual_steps=STEPS,
        fixed_time=True,
        module=Encode,
        example=lambda batch, steps: sentences(spec, batch, steps),
    )
    step = GraphInterface(
        inputs={"token": (1, "batch"), "lengths": ("batch",), **kept, **shapes},
        outputs={
            "logits": (1, "batch", spec.vocabulary),
            **{f"{name}_after": s for name, s in shapes.items()},
        },
        steps=STEPS,
        free_time=True,
        module=Step,
        example=reached,
    )
    return {"encoder": encoder, "step": step}


def sentences(spec: PairSpec, batch: int, steps: int) -> tuple[Tensor, Tensor]:
    """Random sources [steps, batch] and their lengths, one of which is all steps."""
    generator = torch.Generator().manual_seed(batch * 1000 + steps)
    size = spec.source_vocabulary or spec.vocabulary
    source = torch.randint(size, (steps, batch), generator=generator)
    lengths = torch.randint(1, steps + 1, (batch,), generator=generator)
    lengths[0] = steps
    return source, lengths

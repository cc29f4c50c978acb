"""A recogniser as graphs: of a network of one direction with its state, of both directions over whole utterances."""

from typing import Any

import torch
from torch import Tensor, nn

from gatelab.data.audio.spec import SpeechSpec
from gatelab.tasks.contract import GraphInterface

USUAL_STEPS = 12
"""Steps of the core that a graph is compared on; of both directions also those of a graph of fixed length."""


class WholeUtterances(nn.Module):
    """Frames [B, T, C] of whole utterances in, logits [T', B, V + 1] out; no state, as what comes later is read too."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Return the logits of frames `x`."""
        return (self.net(x)[0],)


def frames_and_state(net: Any, spec: SpeechSpec, batch: int, steps: int) -> tuple[Tensor, ...]:
    """Random frames [batch, steps, C] and, of a network of one direction, the state after some others."""
    generator = torch.Generator().manual_seed(batch * 1000 + steps)
    before = 2 * net.stride
    frames = torch.randn(batch, before + steps, spec.channels, generator=generator)
    if not net.streams:
        return (frames[:, before:],)
    state = net(frames[:, :before])[1]
    return (frames[:, before:], *(state if isinstance(state, tuple) else (state,)))


def recognizer_graph(net: Any, spec: SpeechSpec) -> GraphInterface:
    """Frames [B, T, C], and the state if there is one, in; logits [T', B, V + 1] and the state out."""
    usual = USUAL_STEPS * net.stride
    steps: int | str = "time" if net.stride == 1 else "steps"
    frames = {"frames": ("batch", "time", spec.channels)}
    logits = {"logits": (steps, "batch", len(spec.symbols) + 1)}
    if not net.streams:
        return GraphInterface(
            frames, logits, steps=usual, usual_steps=usual, multiple=net.stride, module=WholeUtterances
        )
    states = frames_and_state(net, spec, 1, net.stride)[1:]
    named = {f"state_{place}": state for place, state in enumerate(states)}
    return GraphInterface.of_steps(
        frames, logits, named, steps=net.stride, usual_steps=usual, multiple=net.stride
    )

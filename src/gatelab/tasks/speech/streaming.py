"""Speech written down while it comes: samples in, of any number at a time, what was said since the last ones out.

The state is an argument and holds all that is needed: samples that fill no window yet, frames that fill no step of the
network yet, the network's own state, and the last output. However it is cut, the outputs are those of the whole sound.

Dimensions: S samples, T frames, T' steps, C channels, V symbols.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gatelab.core.speech.decoding import BLANK, collapse
from gatelab.data.audio.frames import Scale


class StreamState(NamedTuple):
    """What a stream carries.

    samples: `[S]`, from the beginning of the next frame on. frames: `[T, C]`, fewer than the network's stride.
    net: the network's state. last: the last step's output.
    """

    samples: Tensor
    frames: Tensor
    net: Any = None
    last: int = BLANK


class StreamingRecognizer:
    """`listen(samples, state=None) -> (what was said, state)`.

    Args:
        task: a `RecognitionTask` in evaluation mode, of a network of one direction.
        reader: the DataModule with the run's settings (`data.normalize=global` or `none`).

    Raises ValueError where the outputs would depend on what comes later.
    """

    def __init__(self, task: Any, reader: Any) -> None:
        if not task.net.streams:
            raise ValueError("task.net.bidirectional=true reads the whole utterance first: it cannot stream")
        whole = {"utterance": "the whole utterance", "speaker": "all sounds of a speaker"}
        if reader.normalize in whole:
            raise ValueError(
                f"data.normalize={reader.normalize} needs {whole[reader.normalize]}: train with data.normalize=global "
                "to stream"
            )
        if reader.features.top_db is not None:
            raise ValueError(
                "data.top_db needs a sound's loudest moment: train with data.top_db=null to stream"
            )
        self.net, self.spec = task.net, task.spec
        self.frames = reader.frames_of(self.spec.rate, Scale(self.spec.mean, self.spec.std))

    def start(self) -> StreamState:
        """The state before the first sample."""
        return StreamState(torch.zeros(0), torch.zeros(0, self.spec.channels))

    @torch.inference_mode()
    def log_probs(self, samples: Tensor, state: StreamState | None = None) -> tuple[Tensor, StreamState]:
        """Return log-probabilities `[T', V + 1]` of the steps that `samples [S]` complete, and the state."""
        state = state or self.start()
        samples = torch.cat((state.samples, samples))
        window, hop = self.frames.features.sizes(self.spec.rate)
        count = max(0, 1 + (len(samples) - window) // hop)
        frames = state.frames
        if count:
            frames = torch.cat((frames, self.frames.of(samples[: window + (count - 1) * hop])))
        read = len(frames) // self.net.stride * self.net.stride
        net, log_probs = state.net, torch.zeros(0, len(self.spec.symbols) + 1)
        if read:
            logits, net = self.net(frames[None, :read], net)
            log_probs = logits[:, 0].log_softmax(-1)
        last = int(log_probs[-1].argmax()) if len(log_probs) else state.last
        return log_probs, StreamState(samples[count * hop :], frames[read:], net, last)

    def __call__(self, samples: Tensor, state: StreamState | None = None) -> tuple[str, StreamState]:
        """Return what `samples [S]` add to the transcript of the likeliest path, and the state."""
        before = BLANK if state is None else state.last
        log_probs, state = self.log_probs(samples, state)
        return self.spec.text(collapse(log_probs.argmax(-1).tolist(), before)), state

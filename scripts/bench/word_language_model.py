"""One epoch of pytorch/examples' word language model (`--model GRU --tied`), written anew from its description.

Embedding, dropout, `nn.GRU`, dropout, a decoder that shares the embedding's matrix, log softmax, the mean NLL of a
window; windows of contiguous streams, the state carried and detached; gradients clipped to a norm of 0.25, and plain
SGD by hand at a rate of 20. Sizes are those of `experiment=ptb_gru`. Prints the seconds of the training steps and
the mean loss.
"""

import sys
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.data import TextDataModule
from scripts import harness

HIDDEN, LAYERS, DROPOUT, BATCH, WINDOW, RATE, CLIP = 200, 2, 0.2, 20, 35, 20.0, 0.25


class WordModel(nn.Module):
    """The model: logits as log-probabilities [T*B, V], and the next state."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(DROPOUT)
        self.encoder = nn.Embedding(words, HIDDEN)
        self.rnn = nn.GRU(HIDDEN, HIDDEN, LAYERS, dropout=DROPOUT)
        self.decoder = nn.Linear(HIDDEN, words)
        self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Of tokens [T, B] and a state [L, B, H]."""
        y, state = self.rnn(self.drop(self.encoder(tokens)), state)
        return F.log_softmax(self.decoder(self.drop(y)).view(-1, self.decoder.out_features), dim=1), state


def main() -> int:
    p = harness.parser(__doc__)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--precision", default="highest", choices=harness.PRECISIONS, help="of matrix products")
    p.add_argument("--batches", type=int, help="default: the whole epoch")
    p.add_argument("--cache", required=True, help="folder of the corpus, as paths.cache")
    options = p.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision(options.precision)
    torch.manual_seed(0)
    data = TextDataModule("ptb_word", cache=options.cache)
    data.setup()
    tokens = data.tokens["train"].long()
    streams = tokens[: len(tokens) // BATCH * BATCH].view(BATCH, -1).t().contiguous()
    model = WordModel(data.spec.vocabulary).train()
    state = torch.zeros(LAYERS, BATCH, HIDDEN)
    starts = range(0, len(streams) - 1, WINDOW)[: options.batches]
    total, began = 0.0, time.perf_counter()
    for start in starts:
        length = min(WINDOW, len(streams) - 1 - start)
        model.zero_grad()
        log_probabilities, state = model(streams[start : start + length], state.detach())
        loss = F.nll_loss(log_probabilities, streams[start + 1 : start + 1 + length].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(parameter.grad, alpha=-RATE)
        total += loss.item()
    print(time.perf_counter() - began, total / len(starts))
    return 0


if __name__ == "__main__":
    sys.exit(main())

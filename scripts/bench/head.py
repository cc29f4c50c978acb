"""The head of `experiment=ptb_gru`, forward and backward, against `F.linear` and `F.cross_entropy`, in turns.

`products` is its three matrix products alone, `step` a training step of the whole model with either head. Seconds mean
little on a machine that others use too; there the ratio of processor time tells more.
"""

import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core import GRU, LanguageModel
from gatelab.core.text.head import token_loss
from scripts import harness


def main() -> int:
    p = harness.parser(__doc__)
    p.add_argument("--rounds", type=int, default=15, help="turns of each contender (default: %(default)s)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--precision", default="highest", choices=harness.PRECISIONS, help="of both heads")
    p.add_argument("--json", type=Path, metavar="FILE", help="write every round's seconds")
    options = p.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision(options.precision)
    model = LanguageModel(10_000, partial(GRU, hidden_size=200, num_layers=2, dropout=0.2), dropout=0.2)
    adam = torch.optim.Adam(model.parameters(), 2e-3)
    tokens, targets = torch.randint(10_000, (2, 35, 20)).unbind()
    x, z, weight = torch.randn(700, 200, requires_grad=True), torch.empty(700, 10_000), model.head.weight

    def loss(name: str, x: Tensor) -> Tensor:
        if name == "fused":
            return token_loss(model.head, x, targets.flatten())[0]
        return F.cross_entropy(F.linear(x, weight, model.head.bias), targets.flatten(), reduction="sum")

    used = defaultdict(list)

    def timed(part: str, name: str) -> float:
        began, before = time.perf_counter(), time.process_time()
        adam.zero_grad()
        if part == "products":
            _ = torch.mm(x.data, weight.data.t(), out=z), torch.mm(z, weight.data), torch.mm(z.t(), x.data)
        else:
            (loss(name, x if part == "head" else model.features(tokens)[0].flatten(0, 1)) / 700).backward()
        if part == "step":
            nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            adam.step()
        used[part, name].append(time.process_time() - before)
        return time.perf_counter() - began

    cases = [("products", ""), ("head", "plain"), ("head", "fused"), ("step", "plain"), ("step", "fused")]
    found = harness.in_turns({" ".join(c): partial(timed, *c) for c in cases}, options.rounds, warm_up=2)
    rows = []
    for (part, name), took in zip(cases, found.values(), strict=True):
        peer = ("head" if part == "products" else part, "plain")
        faster = harness.median_ratio(took, found[" ".join(peer)])
        row = {"part": part, "head": name, "least ms": min(took) * 1e3, "times faster": faster}
        row["by processor time"] = harness.median_ratio(used[part, name], used[peer])
        rows.append({key: v if isinstance(v, str) else round(v, 2) for key, v in row.items()})
    harness.show(
        f"35 x 20 positions, 200 features, 10,000 words, {options.threads} threads, {options.precision}", rows
    )
    if options.json:
        harness.write_json(options.json, {"rows": rows, "seconds": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())

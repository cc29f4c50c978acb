"""An epoch of the forecaster in the shape of SegRNN beside the same with `model=nn_gru`, in turns.

ETTh1, look-back 720, segments of 24, 512 units, batches of 64 windows of seven channels each. Every turn is a fresh
process; the seconds are those of the training steps, without imports and validation (`scripts/bench/epochs.py`).

examples:
  python -m scripts.bench.segrnn
  python -m scripts.bench.segrnn --batches 20 --rounds 5 --threads 1
  python -m scripts.bench.segrnn --data etth2 --lookback 96 --output segrnn.json
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

from gatelab.run.record.environment import cpu_name, versions
from scripts import harness
from scripts.bench.epochs import of_gatelab


def main() -> int:
    p = harness.parser(__doc__)
    p.add_argument("--rounds", type=int, default=3, help="turns of each that count (default: %(default)s)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--batches", type=int, help="training steps of a turn; default: the whole epoch")
    p.add_argument("--data", default="etth1", choices=("etth1", "etth2", "ettm1", "ettm2"))
    p.add_argument("--lookback", type=int, default=720)
    p.add_argument("--output", type=Path, metavar="FILE", help="write every turn's seconds as JSON")
    options = p.parse_args()
    request = [f"experiment={options.data}_gru", f"data.lookback={options.lookback}", "trainer.max_epochs=1"]
    request += ["test=false", "trainer.limit_val_batches=1"]
    with harness.place(None, "segrnn-", memory=False) as root:
        sizes = (options.threads, options.batches, root)
        calls = {
            f"gatelab model={model}": of_gatelab(request, [f"model={model}"], *sizes)
            for model in ("nn_gru", "gru")
        }
        found = harness.in_turns(calls, options.rounds, warm_up=0)
    slowest, rows = found["gatelab model=nn_gru"], []
    for name, took in found.items():
        ratio = harness.median_ratio(took, slowest)
        rows.append({"what": name, "seconds": round(median(took), 1), "times as fast": round(ratio, 2)})
    extent = "an epoch" if options.batches is None else f"{options.batches} steps"
    harness.show(
        f"{extent} of {options.data}, look-back {options.lookback}, 512 units, {options.threads} threads",
        rows,
    )
    if options.output:
        document = {"request": request, "threads": options.threads, "batches": options.batches, "rows": rows}
        more = {"seconds": found, "processor": cpu_name(), "versions": versions()}
        harness.write_json(options.output, {**document, **more})
    return 0


if __name__ == "__main__":
    sys.exit(main())

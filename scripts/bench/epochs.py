"""An epoch of an experiment beside the same with `model=nn_gru`, in turns; `ptb_gru` also beside pytorch/examples.

Every turn is a fresh process; the seconds are those of the training steps, without imports and validation. Gatelab's
steps read the loss, watch for NaN, log, and keep statistics of gradients and gates; the loop of pytorch/examples
(`word_language_model.py` here, written anew) does the training and nothing else. Sizes, threads and data are the same.

examples:
  python -m scripts.bench.epochs --output docs/bench_epochs.json
  python -m scripts.bench.epochs --batches 200 --rounds 5
  python -m scripts.bench.epochs --precision medium                           every contender may round to BF16
  python -m scripts.bench.epochs --more matmul_precision=medium               Gatelab alone may, as one row more
  python -m scripts.bench.epochs experiment=etth1_gru data.lookback=720       the forecaster in the shape of SegRNN
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

from gatelab.run.record.environment import cpu_name, versions
from scripts import harness

WORDS = ["experiment=ptb_gru"]
ONE_EPOCH = ["trainer.max_epochs=1", "test=false", "trainer.limit_val_batches=1"]
SECONDS = "time/epoch_seconds"


def of_gatelab(
    asked: list[str], overrides: list[str], threads: int, batches: int | None, root: Path
) -> Callable[[], float]:
    """A call that trains an epoch of `asked` and returns the seconds that the run's own record gives for its steps."""
    count, label = [0], "-".join(["epoch", *(o.rpartition("=")[2] for o in overrides)])

    def call() -> float:
        count[0] += 1
        where = [f"paths.root={root / 'runs'}", f"paths.cache={root / 'cache'}", f"name={label}{count[0]}"]
        limit = [] if batches is None else [f"trainer.limit_train_batches={batches}"]
        request = [*asked, *overrides, *limit, *where, f"threads={threads}"]
        env = harness.environment(OMP_NUM_THREADS=str(threads))
        command = harness.Command(harness.gatelab("train", *request), root / "log", env)
        found: list[float] = []

        def told() -> bool:
            for file in (root / "runs" / "runs" / f"{label}{count[0]}").glob("*/metrics.csv"):
                found[:] = [
                    float(row[SECONDS])
                    for row in csv.DictReader(file.read_text().splitlines())
                    if row.get(SECONDS)
                ]
            return bool(found)

        if not command.until(told, 3600):
            raise SystemExit(f"{overrides}: no epoch:\n{command.tail()}")
        command.kill()  # the final scores are not what is measured
        return found[0]

    return call


def of_examples(precision: str, threads: int, batches: int | None, root: Path) -> Callable[[], float]:
    """A call that runs the loop of pytorch/examples and returns the seconds that it prints."""

    def call() -> float:
        log = root / "examples.log"
        limit = [] if batches is None else [f"--batches={batches}"]
        command = [sys.executable, "-m", "scripts.bench.word_language_model", f"--threads={threads}"]
        command += [f"--precision={precision}"]
        env = harness.environment(OMP_NUM_THREADS=str(threads))
        harness.run([*command, f"--cache={root / 'cache'}", *limit], log, 3600, env)
        return float(harness.tail(log, 1).split()[0])

    return call


def main() -> int:
    p = harness.parser(__doc__)
    p.add_argument("request", nargs="*", default=WORDS, metavar="KEY=VALUE", help="default: ptb_gru")
    p.add_argument("--rounds", type=int, default=3, help="turns of each that count (default: %(default)s)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--batches", type=int, help="training steps of a turn; default: the whole epoch")
    p.add_argument(
        "--precision", choices=harness.PRECISIONS, help="of every contender's products; default: its own"
    )
    p.add_argument("--more", metavar="KEY=VALUE", help="one more contender: gatelab with this override")
    p.add_argument("--output", type=Path, metavar="FILE", help="write every turn's seconds as JSON")
    options = p.parse_args()
    with harness.place(None, "epochs-", memory=False) as root:
        sizes = (options.threads, options.batches, root)
        asked, words = [*options.request, *ONE_EPOCH], options.request == WORDS
        asked += [f"matmul_precision={options.precision}"] if options.precision else []
        calls = {"pytorch/examples": of_examples(options.precision or "highest", *sizes)} if words else {}
        for name in (
            "gatelab",
            "gatelab model=nn_gru",
            *([f"gatelab {options.more}"] if options.more else []),
        ):
            calls[name] = of_gatelab(asked, name.split()[1:], *sizes)
        found = harness.in_turns(calls, options.rounds, warm_up=0)
    rows = harness.compared(found, "pytorch/examples" if words else "gatelab model=nn_gru")
    extent = "an epoch" if options.batches is None else f"{options.batches} steps"
    told = [*options.request, *([f"--precision {options.precision}"] if options.precision else [])]
    harness.show(f"{extent} of {' '.join(told)}, {options.threads} threads", rows)
    if options.output:
        about = {key: getattr(options, key) for key in ("request", "precision", "threads", "batches")}
        machine = {"processor": cpu_name(), "versions": versions()}
        harness.write_json(options.output, {**about, "rows": rows, "seconds": found, **machine})
    return 0


if __name__ == "__main__":
    sys.exit(main())

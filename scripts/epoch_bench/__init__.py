"""The parts of `scripts/bench_epochs.py`: one turn of a contender, where its time goes, and how it is shown."""

"""Parts of `scripts/bench_overhead.py`."""

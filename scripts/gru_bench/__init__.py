"""The parts of `scripts/bench_gru.py`: what is measured, how, and how it is shown."""

"""Benchmarks, chaos tests and checks, each a module: `python -m scripts.checks.resume`, from the root of a checkout."""

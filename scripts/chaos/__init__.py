"""Parts of `scripts/chaos_sweep.py`."""

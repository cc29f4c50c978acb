"""Parts of `scripts/chaos_checkpoints.py`."""

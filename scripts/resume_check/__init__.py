"""Parts of `scripts/check_resume.py` and `scripts/check_signals.py`."""

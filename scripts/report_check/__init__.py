"""The parts of `check_report.py`: a browser that is spoken to, and what is looked at in it."""

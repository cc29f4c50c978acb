"""One run: its configuration, its record, training, evaluation, resume, reproduction, export. Knows no study."""

"""Many series in one long frame: reading, checking, windows over all of them, one DataModule."""

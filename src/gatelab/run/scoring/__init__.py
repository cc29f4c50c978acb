"""Scoring of finished runs: `eval`, evaluation rows, backtests, calibration, rows of public leaderboards."""

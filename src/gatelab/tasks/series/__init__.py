"""Forecasting: the task, its intervals, rolling windows, and the columns of public leaderboards."""

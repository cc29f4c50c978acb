"""Read a study back: its state, statistics, leaderboard and importance."""

"""Translation: training, scores, prediction."""

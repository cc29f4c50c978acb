"""What the axes of pictures are called: metrics with their units. Nothing is drawn here, and nothing heavy imported."""

LABELS = {
    "bpc": "bits per character",
    "ppl": "perplexity",
    "loss": "loss (nats per token)",
    "mse": "mean squared error (standardised)",
}

"""Text: corpora, tokenizers, streams, and the DataModule of language modelling."""

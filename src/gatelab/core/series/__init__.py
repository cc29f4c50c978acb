"""What a forecaster needs beside its core: normalisation of windows, covariates, decoders, distributions."""

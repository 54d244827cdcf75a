"""The model (flax NNX): parameters, and calls into lcref.ops and lcref.kernels."""

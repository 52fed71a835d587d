"""Nadir-aware retrieval: SALAD over a tower's patches, Fourier features of the nadir, their concatenation, its loss."""

"""Images without a vector in a space → vectors: the run that encodes them, the import of vectors made elsewhere."""

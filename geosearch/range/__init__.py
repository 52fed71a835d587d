"""RANGE: banks of places, and the soft retrieval of image features for any place."""

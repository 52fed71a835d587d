"""Recall@k, precision@k and their reports: arrays in, figures out."""

"""What the models trained by this project share: ground splits, data, loops, cards."""

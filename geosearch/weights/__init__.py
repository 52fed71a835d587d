"""Small models that this project trained, one folder a model, each with its card."""

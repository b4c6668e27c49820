"""Pure learning: features, models, losses, metrics, baselines."""

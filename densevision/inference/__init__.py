"""Runs models: sources, preprocessing, tiles, test-time augmentation, and predictors of weights files."""

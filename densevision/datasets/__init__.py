"""Datasets, augmentation and loaders: where samples come from."""

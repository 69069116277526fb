"""Datasets: file formats, splits, samples, augmentation, conversion and checks."""

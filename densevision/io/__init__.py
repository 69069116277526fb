"""Bytes to arrays and back: images, videos, labels, weights. Knows no task and no network."""

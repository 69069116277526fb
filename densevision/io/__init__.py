"""Bytes to arrays and back: pictures, videos, labels, weights. Knows no task and no network."""

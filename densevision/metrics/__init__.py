"""Metrics and the scoring of prediction files; everything here but `lpips` works without torch."""

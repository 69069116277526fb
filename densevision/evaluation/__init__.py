"""Evaluation of models and prediction files: reports, comparisons, error analysis and robustness."""

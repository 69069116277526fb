"""Checks of datasets before training: each check counts problems, gives examples, and says how to fix them."""

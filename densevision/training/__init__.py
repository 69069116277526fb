"""Trains, evaluates, runs and exports any Task. Knows no task by name; the only floor that knows Lightning."""

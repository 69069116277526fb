"""Machinery of evaluation that two or more tasks share."""

"""Machinery of judgement that two or more tasks share."""

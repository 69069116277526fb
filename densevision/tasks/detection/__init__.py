"""Detection: objects as boxes, by an anchor-free detector."""

"""Detection: objects as boxes."""

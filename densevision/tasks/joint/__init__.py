"""Joint models: several tasks on one encoder."""

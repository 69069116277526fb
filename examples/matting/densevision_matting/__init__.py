"""The opacity of the foreground in every pixel."""

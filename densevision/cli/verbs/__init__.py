"""One file per verb; each gives `command(task)`."""

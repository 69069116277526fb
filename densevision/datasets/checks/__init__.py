"""What is wrong with a dataset before a night of training: each check counts, names examples, and says the fix."""

"""Parts of networks that two or more tasks share."""

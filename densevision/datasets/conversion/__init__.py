"""One format of a dataset into another: what both can hold stays, and what the target cannot hold is listed."""

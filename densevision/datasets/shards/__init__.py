"""Datasets in shards (tar, Parquet) and in remote storage, as folders that every reader understands."""

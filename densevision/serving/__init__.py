"""Prediction over HTTP: `densevision serve`."""

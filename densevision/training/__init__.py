"""Trains any task: a loop on Lightning Fabric, the only package that imports Lightning."""

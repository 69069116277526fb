"""Generators that answer a picture with a picture, and the discriminators that judge them, one file per family.

Generators map (B, C, H, W) pictures from -1 to 1 to pictures of the same size and range.
"""

"""Generators that answer an image with an image, and the discriminators that judge them, one file per family.

Generators map (B, C, H, W) images from -1 to 1 to images of the same size and range.
"""

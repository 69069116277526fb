"""Networks that make an image of an image, one file per family.

Each maps (B, C, H, W) in [0, 1] to (B, C, scale * H, scale * W), not clipped, for any height and width. `receptive_field_radius` is how
far around it, in pixels of the input, an output pixel looks; None where it looks everywhere or nobody can say.
"""

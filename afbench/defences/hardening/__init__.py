"""Localizers and image-level classifiers that are trained to withstand attacks, instead of a purifier before them."""

"""Localizers and image-level classifiers that are trained to withstand attacks without a purifier."""

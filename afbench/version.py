"""The version of this package, for every room; the package itself imports rooms, which none below may."""

__version__ = "0.1.0"

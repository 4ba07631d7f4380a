"""Bring a benchmark into other formats, onto the Hub, and back."""

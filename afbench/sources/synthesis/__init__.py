"""Forgeries made from scratch: scenes, simulated cameras, and three kinds of tampering."""

from .compose import FORGERY_KINDS, Forgery, synthesize
from .photographs import Photograph, attribution, load_photographs

__all__ = ["FORGERY_KINDS", "Forgery", "Photograph", "attribution", "load_photographs", "synthesize"]

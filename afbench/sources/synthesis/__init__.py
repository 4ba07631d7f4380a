"""Forgeries made from scratch: scenes, simulated cameras, and three kinds of tampering."""

from .compose import FORGERY_KINDS, Forgery, synthesize
from .photographs import Photograph, load_photographs

__all__ = ["FORGERY_KINDS", "Forgery", "Photograph", "load_photographs", "synthesize"]

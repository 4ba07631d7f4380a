"""One trainer for all that learns from a benchmark's pairs: purifiers, hardened localizers, and a classifier."""

"""Bring features to two dimensions: by UMAP where umap-learn is installed, else by principal components."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from afbench.metrics import FloatArray

FEWEST = 10
"""Vectors below which UMAP has no neighbourhoods to keep."""


class Embedding(NamedTuple):
    """Places ``(N, 2)``, the name of the method, and titles of the two axes."""

    coordinates: FloatArray
    method: str
    axes: tuple[str, str]


def embed(vectors: FloatArray) -> Embedding:
    """Embed vectors ``(N, C)``, each channel scaled to one standard deviation; the same vectors give the same coordinates."""
    spread = vectors.std(axis=0)
    scaled = (vectors - vectors.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    if len(vectors) >= FEWEST:
        try:
            from umap import UMAP
        except ImportError:
            return _principal_components(scaled, "PCA, as umap-learn is not installed")
        # one thread and a fixed state, without which every run gives another map
        mapper = UMAP(n_neighbors=min(15, len(vectors) - 1), random_state=0, n_jobs=1)
        coordinates = np.asarray(mapper.fit_transform(scaled), dtype=np.float64)
        return Embedding(coordinates, "UMAP", ("UMAP 1", "UMAP 2"))
    return _principal_components(scaled, "PCA")


def _principal_components(scaled: FloatArray, method: str) -> Embedding:
    left_vectors, sizes, right_vectors = np.linalg.svd(scaled, full_matrices=False)
    # the sign of a component is arbitrary: its largest weight counts as positive
    signs = np.sign(right_vectors[np.arange(len(right_vectors)), np.abs(right_vectors).argmax(axis=1)])
    coordinates = np.zeros((len(scaled), 2))
    count = min(2, len(sizes))
    coordinates[:, :count] = (left_vectors * sizes * signs)[:, :count]
    shares = np.zeros(2)
    shares[:count] = sizes[:count] ** 2 / max(float((sizes**2).sum()), np.finfo(float).tiny)
    first, second = (
        f"component {number} ({100 * share:.0f} % of variance)" for number, share in enumerate(shares, 1)
    )
    return Embedding(coordinates, method, (first, second))

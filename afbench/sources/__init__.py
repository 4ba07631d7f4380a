"""Datasets of forged images with masks, one file each."""

from afbench.core import Source, UsageError

__all__ = ["open_source"]


def open_source(name: str, root: str | None = None, *, seed: int = 0, limit: int | None = None) -> Source:
    """Open a source by name; its samples are read later, one by one.

    Args:
        name: ``demo``, ``synthetic`` or ``folder``.
        root: the folder of the user's own images, for ``folder``.
        seed: of synthetic forgeries.
        limit: take the first samples only.
    Raises:
        UsageError: if the source is unknown, cannot be read yet, or its root does not hold what it should.
    """
    if name == "demo":
        from .demo import open_demo

        return open_demo(limit)
    if name == "synthetic":
        from .synthetic import open_synthetic

        return open_synthetic(seed, limit)
    if name == "folder":
        from .folder import open_folder

        return open_folder(root or "", limit)
    raise UsageError(
        f"source '{name}' cannot be read by this version; put your copy's images and masks into "
        "PATH/images and PATH/masks and use --source folder:PATH"
    )

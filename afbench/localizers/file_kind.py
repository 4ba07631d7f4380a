"""Tell what a file given as weights really is, by its first bytes."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

_HEAD = 1024
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--", b"<meta")
_ARCHIVES = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
}


def other_kind(path: Path) -> str:
    """Say what a file is that cannot be weights, and what to do; "" for a file that may be.

    It recognises archives, texts, and web pages and git-LFS pointers that were saved instead of a download.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    archive = next((kind for magic, kind in _ARCHIVES.items() if head.startswith(magic)), "")
    # PyTorch's own files are zip archives too
    if head.startswith(b"PK\x03\x04") and not _holds_pickle(path):
        archive = "a zip archive without a PyTorch file's data.pkl"
    if archive:
        return f"is {archive}; unpack it, and give the file inside"
    return _kind_of_text(head)


def _kind_of_text(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        size = re.search(rb"^size (\d{1,15})$", text, re.MULTILINE)
        size_text = f" of {int(size[1]):,} bytes" if size else ""
        return f"is a git-LFS pointer to a file{size_text}, not the file; run `git lfs pull` there, or download the file itself"
    if text.startswith(_PAGES):
        return "is a web page saved in the place of the file; open its address in a browser, and download the file itself"
    if not head:
        return "is empty; download it again"
    return "is a text file; give the file of the weights" if re.fullmatch(rb"[\t\n\r -~]+", head) else ""


def _holds_pickle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.rpartition("/")[2] == "data.pkl" for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return True  # damaged: the reader reports it

"""Read zip and tar entry by entry, with bounds where the standard library trusts what a header claims."""

from __future__ import annotations

import gzip
import io
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

from .problems import Refusal

MAX_READ = 1 << 27
"""Bytes one read may ask for: a zip's directory, or a long name in a tar, is never larger."""
MAX_TAR_HEADER = 1 << 16
"""Bytes of a long name or of a pax header in a tar."""
_RATIO, _SMALL = 200, 1 << 20
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
"""Types of headers of any length; the first three are pax."""
_MOST_GLOBAL = 1 << 16
"""Bytes of all global pax headers of a tar, which every member's header copies."""
_DIGITS = re.compile(rb"[0-9]{64}")


@dataclass(frozen=True)
class ArchiveEntry:
    """What an archive claims about one member. ``kind``: file, folder, link, other, or why it cannot be read."""

    name: str
    size: int
    packed: int
    kind: str
    open: Callable[[], Any]


Container: TypeAlias = Iterator[ArchiveEntry]


class _Bounded(io.RawIOBase):
    """A stream whose single reads and whose end are bounded, whatever a header says."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, end: int | None = None) -> None:
        self._stream = stream
        self._end = end
        self._ahead = b""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MAX_READ:
            raise Refusal("AF011", f"a header asks for {size} bytes at once")
        byte_count = MAX_READ if size is None or size < 0 else size
        ahead, self._ahead = self._ahead[:byte_count], self._ahead[byte_count:]
        data: bytes = ahead + self._stream.read(byte_count - len(ahead))
        self._check(self.tell())
        return data

    def peek(self, size: int) -> bytes:
        """Return what the next read gives, without seeking back: a gzip stream would start again."""
        self._ahead = self.read(size) + self._ahead
        return self._ahead[:size]

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0:
            self._check(offset)
        self._ahead = b""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell() - len(self._ahead)

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def _check(self, position: int) -> None:
        if self._end is not None and position > self._end:
            raise Refusal("AF011", f"unfolds to more than {_RATIO} times its size")


def open_zip(path: Path) -> Container:
    """Yield the members of a zip, in the order of its directory.

    Raises:
        Refusal: AF008 if it is damaged, AF011 if it claims too much.
    """
    with path.open("rb") as stream:
        try:
            archive = zipfile.ZipFile(_Bounded(stream))
        except Refusal:
            raise
        except Exception as error:  # a stranger's bytes make the library raise almost anything
            raise Refusal("AF008", f"is no readable zip ({type(error).__name__})") from None
        # members that share their bytes unfold to far more than the archive holds, each within its own bounds
        if sum(info.compress_size for info in archive.infolist()) > path.stat().st_size:
            raise Refusal("AF011", "members claim more bytes than the archive has")
        for info in archive.infolist():
            # orig_filename: the library cuts a name at its first NUL, and then says nothing of it
            yield ArchiveEntry(
                info.orig_filename, info.file_size, info.compress_size, _zip_kind(info), _opens(archive, info)
            )


def _opens(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(info)


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "other"
    if info.orig_filename.endswith("/"):
        return "folder"
    if info.flag_bits & 0x1:
        return "is encrypted"
    # the other methods are unpacked without a bound by the standard library
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is packed by method {info.compress_type}; use stored or deflated"
    return "file"


def open_tar(path: Path) -> Container:
    """Yield the members of a .tar or .tar.gz in order; read each one before asking for the next.

    Raises:
        Refusal: AF008 if it is damaged, AF011 if it unfolds to too much.
    """
    with path.open("rb") as stream:
        packed = path.stat().st_size
        if stream.read(2) == b"\x1f\x8b":
            stream.seek(0)
            # a small archive may unfold further: tar pads every member to 512 bytes and the end to 10 kB
            bounded = _Bounded(gzip.GzipFile(fileobj=stream), max(_RATIO * packed, _SMALL))
        else:
            stream.seek(0)
            bounded = _Bounded(stream)
        yield from _tar_entries(bounded)


class _BoundedHeader(tarfile.TarInfo):
    """A tar header whose extended forms are read only where reading takes time in proportion to their length.

    Before 3.11.10 Python searches pax headers in a time that grows with the square of their length.
    """

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENDED:
            if not 0 <= self.size <= MAX_TAR_HEADER:
                raise Refusal("AF011", f"a header of {self.size} bytes, at most {MAX_TAR_HEADER} are read")
            if self.type in _EXTENDED[:3]:
                assert isinstance(archive.fileobj, _Bounded)
                _check_pax(archive.fileobj.peek(self.size))
            if self.type == tarfile.XGLTYPE:
                _count_global(archive, self.size)
        member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return member


def _count_global(archive: tarfile.TarFile, size: int) -> None:
    header_bytes = sum(len(key) + len(value) for key, value in archive.pax_headers.items())
    if header_bytes + size > _MOST_GLOBAL:
        raise Refusal("AF011", f"global headers of more than {_MOST_GLOBAL} bytes")


def _check_pax(header: bytes) -> None:
    """Refuse a pax header that is anything but records of ``length keyword=value``."""
    offset = 0
    while offset < len(header):
        digits = header[offset : offset + 8].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        record = header[offset : offset + length]
        if length < 5 or len(record) < length or not record.endswith(b"\n") or b"=" not in record:
            raise Refusal("AF008", "a pax header is damaged")
        if _DIGITS.search(record):
            raise Refusal("AF011", "a pax header holds a number of more than 63 digits")
        offset += length


def _tar_entries(stream: _Bounded) -> Container:
    archive: tarfile.TarFile | None = None
    while True:
        try:
            archive = archive or tarfile.TarFile(fileobj=stream, tarinfo=_BoundedHeader)
            member = archive.next()
            archive.members = []  # type: ignore[attr-defined]  # it would keep every header it has read
        except Refusal:
            raise
        except Exception as error:  # a stranger's bytes make the library raise almost anything
            raise Refusal("AF008", f"is no readable tar ({type(error).__name__})") from None
        if member is None:
            return
        yield ArchiveEntry(
            member.name, member.size, member.size, _tar_kind(member), _extracts(archive, member)
        )


def _extracts(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], IO[bytes] | None]:
    return lambda: archive.extractfile(member)


def _tar_kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "link"
    if member.isdir():
        return "folder"
    # a sparse member claims bytes that are not in the archive
    if member.issparse() or member.size < 0 or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        return "other"
    return "file"

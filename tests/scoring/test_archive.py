"""Packaging changes nothing, and no name or header of an archive makes anything be written or read elsewhere."""

import gzip
import io
import os
import shutil
import tarfile
import time
import zipfile

import pytest
from submissions import BAD_ARCHIVES, FIRST, MASK, pack, write

from afbench.core import UsageError
from afbench.scoring.package import open_package
from afbench.scoring.problems import Problems, Refusal
from afbench.scoring.score import examine


def opened(path, **options):
    problems = Problems()
    limits = {"max_members": 1000, "max_bytes": 10**8} | options
    return open_package(
        path, problems, is_sample=lambda name: name.lower().endswith("img.png"), **limits
    ), problems


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("top", ["", "./", "submission/"])
def test_folder_and_archive_hold_the_same_members(submission, kind, top):
    wanted, none = opened(submission)
    package, problems = opened(pack(submission, kind, top=top, reverse=True))
    assert not none and not problems
    assert package.sizes == wanted.sizes and len(package.sizes) == 21
    read = {member.path: member.read(10**6) for member in package.walk()}
    assert read == {path: (submission / path).read_bytes() for path in wanted.sizes}


def test_an_archive_made_with_the_usual_tools_is_taken(bench, submission, tmp_path):
    for name, base in (("zip", submission.parent), ("gztar", submission.parent), ("tar", submission)):
        inside = submission.name if base == submission.parent else "."
        made = shutil.make_archive(str(tmp_path / f"usual-{name}"), name, base, inside)
        assert examine(made, bench).missing == 0


@pytest.mark.parametrize("name", [name for name, (code, _) in BAD_ARCHIVES.items() if code == "AF010"])
def test_nothing_is_written_or_followed_outside(bench, submission, tmp_path, name):
    path = BAD_ARCHIVES[name][1](submission)
    before = {one: one.stat().st_mtime_ns for one in tmp_path.parent.rglob("*")}
    package, problems = opened(path)
    list(package.walk())
    assert problems.counts["AF010"] == 1
    assert {one: one.stat().st_mtime_ns for one in tmp_path.parent.rglob("*")} == before


@pytest.mark.reliability("R14")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("/x.png", "absolute"),
        ("\\\\host\\x.png", "absolute"),
        ("c:x.png", "drive"),
        ("a/../../x.png", "leaves"),
        ("..\\x.png", "leaves"),
        ("a//x.png", "odd name"),
        ("a/./x.png", "odd name"),
        ("a b.png", "odd name"),
        ("x\n.png", "odd name"),
        ("x.png\0.txt", "odd name"),
        ("\u202egnp.exe", "odd name"),
        ("n" * 256, "odd name"),
        ("a/" * 600 + "x.png", "odd name"),
        ("CON:", "odd name"),
    ],
)
def test_an_unsafe_name_is_refused_for_what_it_is(tmp_path, name, told):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        archive.writestr(info, MASK)
    package, problems = opened(tmp_path / "x.zip")
    assert package.sizes == {} and problems.counts == {"AF010": 1}
    assert told in problems.lines()[1] and problems.lines()[1].isprintable()


def test_a_file_that_becomes_a_link_after_it_was_listed_is_not_followed(submission, tmp_path):
    package, _ = opened(submission)
    (tmp_path / "secret").write_bytes(MASK)
    (submission / FIRST).unlink()
    (submission / FIRST).symlink_to(tmp_path / "secret")
    found = {member.path for member in package.walk()}
    assert FIRST not in found and len(found) == 20


def test_reading_is_bounded_by_the_caller_and_by_what_was_claimed(submission):
    package, _ = opened(submission)
    member = next(one for one in package.walk() if one.path == FIRST)
    with pytest.raises(Refusal, match="AF011"):
        member.read(member.size - 1)
    write(submission, FIRST, MASK + bytes(1000))
    with pytest.raises(Refusal, match="AF011"):
        member.read(10**6)
    write(submission, FIRST, b"")
    with pytest.raises(Refusal, match="AF008"):
        member.read(10**6)


def test_members_and_bytes_are_counted(submission):
    for path in (submission, pack(submission, "zip"), pack(submission, "tar.gz")):
        assert opened(path, max_members=10)[1].counts == {"AF011": 1}
        assert opened(path, max_bytes=1000)[1].counts == {"AF011": 1}


def test_a_sparse_member_of_a_tar_is_refused(tmp_path):
    with (tmp_path / "holes").open("wb") as stream:
        os.truncate(stream.fileno(), 10**7)
    info = tarfile.TarInfo("predictions/x.png")
    info.type = tarfile.GNUTYPE_SPARSE
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    package, problems = opened(tmp_path / "x.tar")
    assert package.sizes == {} and problems.counts == {"AF010": 1}


def tar_with(header_type, content):
    """A tar.gz of one extended header before an empty member."""
    header, member = tarfile.TarInfo("header"), tarfile.TarInfo("predictions/x.png")
    header.type, header.size = header_type, len(content)
    padded = content + bytes(-len(content) % 512)
    tar = header.tobuf(tarfile.USTAR_FORMAT) + padded + member.tobuf(tarfile.USTAR_FORMAT) + bytes(1024)
    return gzip.compress(tar)


def record(keyword, value):
    """A record of a pax header: it begins with its own length."""
    rest = f" {keyword}={value}\n"
    length = next(one for one in range(len(rest), len(rest) + 9) if len(str(one)) + len(rest) == one)
    return f"{length}{rest}".encode()


@pytest.mark.reliability("R6")
@pytest.mark.parametrize(
    ("header_type", "content", "code"),
    [
        # each took half a minute to hours before Python 3.11.10, from 200 bytes
        (tarfile.XHDTYPE, b"0" * 10**6, "AF011"),
        (tarfile.XHDTYPE, b"0" * 65_536, "AF008"),
        (tarfile.XGLTYPE, b"2 " * 32_000 + b"=", "AF008"),
        (tarfile.SOLARIS_XHDTYPE, record("comment", "0" * 60_000), "AF011"),
        (tarfile.GNUTYPE_LONGNAME, b"x" * 10**6, "AF011"),
        (tarfile.GNUTYPE_LONGLINK, b"x" * 10**6, "AF011"),
    ],
)
def test_an_extended_header_that_takes_long_is_refused_before_it_is_searched(
    tmp_path, header_type, content, code
):
    for name, data in (("x.tar.gz", tar_with(header_type, content)), ("x.tar", None)):
        (tmp_path / name).write_bytes(data or gzip.decompress(tar_with(header_type, content)))
        start = time.process_time()
        package, problems = opened(tmp_path / name)
        assert package.sizes == {} and problems.counts == {code: 1}
        assert time.process_time() - start < 2


def test_global_headers_do_not_add_up(tmp_path):
    header = tarfile.TarInfo("header")
    header.type = tarfile.XGLTYPE
    tar = b""
    for number in range(40):
        content = record(f"k{number}", "x" * 4000)
        header.size = len(content)
        member = tarfile.TarInfo(f"{number}.png").tobuf(tarfile.USTAR_FORMAT)
        tar += header.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512) + member
    (tmp_path / "x.tar").write_bytes(tar + bytes(1024))
    assert opened(tmp_path / "x.tar")[1].counts == {"AF011": 1}


def test_pax_headers_as_python_and_git_write_them_are_read(tmp_path):
    long, odd = "predictions/" + "x" * 200 + ".png", "predictions/\u00e9.png"
    for suffix in ("", ".gz"):
        path = tmp_path / f"x.tar{suffix}"
        with tarfile.open(
            path, f"w:{suffix[1:]}", format=tarfile.PAX_FORMAT, pax_headers={"comment": "a" * 40}
        ) as tar:
            for name in (long, odd, "predictions/plain.png"):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = 3, 1_700_000_000.25
                tar.addfile(info, io.BytesIO(b"abc"))
        package, problems = opened(path)
        assert package.sizes == {long: 3, "predictions/plain.png": 3} and problems.counts == {"AF010": 1}
        assert [member.read(10) for member in package.walk()] == [b"abc", b"abc"]


def test_what_is_not_there_is_a_usage_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "nothing", tmp_path / "pipe"):
        with pytest.raises(UsageError, match="does not exist"):
            opened(path)

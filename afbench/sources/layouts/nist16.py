"""NIST16 (Nimble Challenge 2016): manipulated probes, joined to their masks by the reference table alone.

``probe/NC2016_0128.jpg`` has ``reference/manipulation/mask/NC2016_3942.png``: numbers never match, and only
``reference/manipulation/NC2016-manipulation-ref.csv`` (separated by ``|``) names the pairs. Its masks are black where
forged. Probes that are no target, and all of ``world/``, are authentic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from afbench.core import UsageError
from afbench.sources.sample_names import sample_id, stem
from afbench.sources.source_entry import Label, SourceEntry

from .path_lookup import PathLookup, path_below_root
from .picture_files import Picture, is_mask_folder, pictures, quoted_names, settle

EXPECTS = "reference/manipulation/NC2016-manipulation-ref.csv with the probe/*.jpg and masks it names"

_TABLE = re.compile(r"(?:.*/)?nc2016-manipulation-ref\.csv", re.IGNORECASE)
_TABLE_FOLDERS = "reference/manipulation/"
_NEEDED = ("IsTarget", "ProbeFileName", "ProbeMaskFileName", "BaseFileName")
_KINDS = {
    "IsManipulationTypeSplice": "splice",
    "IsManipulationTypeCopyClone": "copy_move",
    "IsManipulationTypeRemoval": "removal",
}


@dataclass(frozen=True)
class _Row:
    line: int
    target: bool
    probe: str
    mask: str
    group: str
    kind: str


def entries(paths: Sequence[str], read_text: Callable[[str], str]) -> list[SourceEntry]:
    """List the probes that the table names, the photographs of ``world/``, and the files that the table does not name.

    Raises:
        UsageError: if the pictures of the release come without their table, or the table cannot be read.
    """
    all_pictures = pictures(paths)
    tables = [path for path in paths if _TABLE.fullmatch(path)]
    if not tables:
        if any(picture.stem.lower().startswith("nc2016_") for picture in all_pictures):
            raise UsageError(
                "source nist16: no NC2016-manipulation-ref.csv below the root, and only this table knows which mask "
                "belongs to which probe; for masks renamed after their probes use the source list or folder"
            )
        return []
    if len(tables) > 1:
        raise UsageError(
            f"source nist16: {len(tables)} tables ({quoted_names(tables)}); give one release as the root"
        )
    rows = _read_table(tables[0], read_text(tables[0]))
    folder = tables[0].rpartition("/")[0] + "/"
    base = folder[: -len(_TABLE_FOLDERS)] if folder.lower().endswith(_TABLE_FOLDERS) else folder
    named_entries = _named_entries(rows, base, all_pictures)
    return settle([*named_entries, *_unnamed_entries(rows, named_entries, all_pictures)])


def _read_table(name: str, text: str) -> list[_Row]:
    header, *lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    columns = [column.strip() for column in header.split("|")]
    missing = [column for column in _NEEDED if column not in columns]
    if missing:
        raise UsageError(
            f"{name!r} line 1: no column {', '.join(missing)}; expected names separated by '|', found {header[:120]!r}"
        )
    return [
        _row(name, number, dict(zip(columns, _fields(name, number, line, len(columns)), strict=True)))
        for number, line in enumerate(lines, start=2)
        if line.strip()
    ]


def _fields(name: str, number: int, line: str, expected: int) -> list[str]:
    fields = [field.strip().replace("\\", "/") for field in line.split("|")]
    if len(fields) != expected:
        raise UsageError(f"{name!r} line {number}: {len(fields)} fields, expected {expected}")
    return fields


def _row(name: str, number: int, fields: Mapping[str, str]) -> _Row:
    target = fields["IsTarget"].upper()
    if target not in ("Y", "N") or not fields["ProbeFileName"]:
        raise UsageError(
            f"{name!r} line {number}: expected IsTarget Y or N and a ProbeFileName, found {target!r}"
        )
    kinds = [kind for column, kind in _KINDS.items() if fields.get(column, "").upper() == "Y"]
    group = stem(fields["BaseFileName"] or fields["ProbeFileName"])
    return _Row(
        number, target == "Y", fields["ProbeFileName"], fields["ProbeMaskFileName"], group, "+".join(kinds)
    )


def _named_entries(rows: Sequence[_Row], base: str, all_pictures: Sequence[Picture]) -> list[SourceEntry]:
    probes = PathLookup(picture.path for picture in all_pictures if not is_mask_folder(picture.folder))
    masks = PathLookup(picture.path for picture in all_pictures if is_mask_folder(picture.folder))
    probe_stems = {_last_stem(row.probe) for row in rows}
    by_id: dict[str, SourceEntry] = {}
    for row in rows:
        entry = _probe(row, base, probes)
        if row.target and not entry.problem:
            entry = _with_mask(entry, row, base, masks, probe_stems)
        previous = by_id.setdefault(entry.sample_id, entry)
        # a probe may have several lines if they agree
        if replace(previous, detail="") != replace(entry, detail=""):
            detail = f"line {row.line} of the table says otherwise than a line before"
            by_id[entry.sample_id] = replace(previous, masks=(), problem="ambiguous_mask", detail=detail)
    return list(by_id.values())


def _probe(row: _Row, base: str, probes: PathLookup) -> SourceEntry:
    path = path_below_root(base, row.probe)
    label: Label = "forged" if row.target else "authentic"
    entry = SourceEntry(sample_id(stem(row.probe)), None, (), "black", label, row.group, row.kind)
    if path is None:
        return replace(entry, problem="outside_root", detail=f"line {row.line} names {row.probe!r}")
    # a release unpacked into other folders still has one file of each name
    files = probes.find(path) or probes.find_by_name(path)
    if len(files) == 1:
        return replace(entry, image=files[0])
    if files:
        return replace(entry, image=files[0], problem="ambiguous_name", detail=quoted_names(files))
    return replace(entry, problem="missing_image", detail=f"line {row.line} names {path!r}")


def _with_mask(
    entry: SourceEntry, row: _Row, base: str, masks: PathLookup, probe_stems: Set[str]
) -> SourceEntry:
    path = path_below_root(base, row.mask) if row.mask else ""
    if path is None:
        return replace(entry, problem="outside_root", detail=f"line {row.line} names {row.mask!r}")
    files = masks.find(path) if path else []
    if path and not files:
        files = masks.find_by_name(path)
        # masks renamed after their probes would be taken for other probes' masks
        if files and _last_stem(path) in probe_stems:
            return replace(entry, problem="ambiguous_mask", detail=f"{files[0]!r} is also named as a probe")
    if len(files) == 1:
        return replace(entry, masks=(files[0],))
    if files:
        return replace(entry, problem="ambiguous_mask", detail=quoted_names(files))
    return replace(entry, problem="missing_mask", detail=f"line {row.line} names {path!r}")


def _unnamed_entries(
    rows: Sequence[_Row], named_entries: Sequence[SourceEntry], all_pictures: Sequence[Picture]
) -> list[SourceEntry]:
    paths_in_use = {path for entry in named_entries for path in (entry.image, *entry.masks) if path}
    folders_in_use = {path.rpartition("/")[0] for path in paths_in_use}
    mask_names = {_last_stem(row.mask) for row in rows}
    rest: list[SourceEntry] = []
    for picture in all_pictures:
        folder, entry_id = picture.path.rpartition("/")[0], sample_id(picture.stem)
        if picture.path in paths_in_use:
            continue
        if picture.folder == "world":
            rest.append(SourceEntry(entry_id, picture.path, label="authentic", group=picture.stem))
        elif is_mask_folder(picture.folder):
            # the same folder holds masks of the release's other tasks, which other tables name
            if folder in folders_in_use and picture.stem.lower() not in mask_names:
                only = (picture.path,)
                rest.append(
                    SourceEntry(
                        entry_id, None, only, problem="missing_image", detail="no line names this mask"
                    )
                )
        elif picture.folder == "probe" or folder in folders_in_use:
            rest.append(
                SourceEntry(
                    entry_id, picture.path, problem="unlisted", detail="no line of the table names this probe"
                )
            )
    return rest


def _last_stem(path: str) -> str:
    return stem(path).lower()

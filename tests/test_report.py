"""Tables that align, and a contact sheet that shows what it says."""

from dataclasses import replace

import numpy as np
import pytest

from afbench.reports.sheet import _CELL, _GAP, _HEAD, _LABEL, COLUMNS, GAIN, SheetRow, contact_sheet
from afbench.reports.tables import figure, stats_rows, stats_table
from afbench.reports.text import text_table
from afbench.storage.config_manifest import ConfigManifest, SplitManifest


@pytest.fixture
def configs():
    """Two attacked configs, one with figures that are undefined, and the originals."""
    figures = {"n": 36, "f1_clean": 0.81249, "f1_adv": 0.05, "rp": 6.15, "f1_all_ones": 0.2}
    figures |= {"psnr": 48.13, "ssim": 0.99912, "linf": 1, "unchanged": 0, "n_undefined": 2}
    localizer = {"name": "x", "architecture": "x", "weights_sha256": "0" * 64, "untrained": False}
    how = {"localizer": localizer, "attack": "pgd", "phi": "1/255", "steps": 10, "params": {}}
    nothing = dict.fromkeys(figures, None) | {"n": 0}
    splits = {"demo": SplitManifest(summary=figures), "a_long_source": SplitManifest(summary=nothing)}
    return {
        "clean": ConfigManifest("clean", {"demo": SplitManifest()}),
        "reference-pgd-1": ConfigManifest("reference-pgd-1", {"demo": splits["demo"]}, how),
        "x-cw-250": ConfigManifest("x-cw-250", splits, how),
    }


def test_there_is_a_row_for_every_attacked_config_and_source(configs):
    rows = stats_rows(configs)
    assert [(row["config"], row["source"]) for row in rows] == [
        ("reference-pgd-1", "demo"),
        ("x-cw-250", "demo"),
        ("x-cw-250", "a_long_source"),
    ]
    assert rows[0]["f1_clean"] == 0.81249


def test_untrained_weights_are_said_in_the_table(configs):
    provenance = configs["x-cw-250"].provenance
    provenance = {**provenance, "localizer": {**provenance["localizer"], "untrained": True}}
    configs["x-cw-250"] = replace(configs["x-cw-250"], provenance=provenance)
    assert [row["untrained"] for row in stats_rows(configs)] == [False, True, True]
    assert "x-cw-250 (untrained)" in stats_table(configs) and "pgd-1 (untrained)" not in stats_table(configs)


def test_the_table_aligns_names_to_the_left_and_numbers_to_the_right(configs):
    head, *body = stats_table(configs).splitlines()
    assert len(body) == 3 and len({len(line) for line in (head, *body)}) == 1
    assert head.index("source") == body[0].index("demo") == body[2].index("a_long_source")
    for title, value in (("F1 orig", "0.812"), ("RP %", "6.2"), ("PSNR", "48.1"), ("SSIM", "0.9991")):
        assert head.index(title) + len(title) == body[0].index(value) + len(value)


def test_what_is_undefined_is_a_dash_and_never_nan(configs):
    last = stats_table(configs).splitlines()[-1]
    assert last.split() == ["x-cw-250", "a_long_source", "0", *["-"] * 9]
    assert figure(None, 3) == "-" and figure(0.0, 3) == "0.000" and figure(36, 0) == "36"


def test_a_table_without_rows_is_its_head(configs):
    assert text_table(["a", "b", "c"], []) == "a  b  c"
    assert len(stats_table({"clean": configs["clean"]}).splitlines()) == 1


def sheet_row(picture, *, size=(48, 48), moved=0):
    original = np.clip(picture(*size), 10, 240)
    attacked = original.copy()
    attacked[: size[0] // 2] += np.uint8(moved)
    mask = np.zeros(size, np.uint8)
    mask[:, : size[1] // 2] = 255
    return SheetRow(["reference-pgd-1", "sample"], original, attacked, mask, mask, np.zeros_like(mask))


def cell(sheet, column, row=0):
    left, top = _LABEL + column * (_CELL + _GAP), 2 * _HEAD + row * (_CELL + _GAP)
    return np.asarray(sheet.crop((left, top, left + _CELL, top + _CELL)))


def test_the_sheet_has_a_cell_for_every_row_and_column(picture):
    for rows in (1, 3):
        sheet = contact_sheet([sheet_row(picture)] * rows, "title")
        assert sheet.mode == "RGB"
        assert sheet.width == _LABEL + len(COLUMNS) * (_CELL + _GAP) + _GAP
        assert sheet.height == 2 * _HEAD + rows * (_CELL + _GAP) + _GAP


def test_the_noise_cell_is_grey_where_nothing_changed_and_amplified_where_it_did(picture):
    noise = cell(contact_sheet([sheet_row(picture, moved=1)], "title"), COLUMNS.index("noise x40"))
    assert (noise[_CELL // 2 :] == 128).all()
    assert (noise[: _CELL // 2] == 128 + GAIN).all()
    strong = cell(contact_sheet([sheet_row(picture, moved=5)], "title"), COLUMNS.index("noise x40"))
    assert (strong[: _CELL // 2] == 255).all()  # held in range, not wrapped


def test_the_other_cells_are_the_pictures_themselves(picture):
    row = sheet_row(picture, moved=3)
    sheet = contact_sheet([row], "title")
    scale = _CELL // 48
    pictures = {"original": row.original, "attacked": row.attacked}
    pictures |= {
        "mask": row.mask,
        "found before": row.original_prediction,
        "found after": row.attacked_prediction,
    }
    for name, pixels in pictures.items():
        rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
        np.testing.assert_array_equal(
            cell(sheet, COLUMNS.index(name)), rgb.repeat(scale, axis=0).repeat(scale, axis=1)
        )


@pytest.mark.parametrize("size", [(30, 200), (400, 60), (1, 300)])
def test_pictures_of_any_shape_fit_their_cell(picture, size):
    row = sheet_row(picture, size=size)
    shown = cell(contact_sheet([row, row], "title"), 0, row=1)
    drawn = (shown != 250).any(axis=2)
    assert drawn.any(axis=0).sum() <= _CELL and drawn.any(axis=1).sum() <= _CELL
    assert max(drawn.any(axis=0).sum(), drawn.any(axis=1).sum()) == _CELL


def test_drawing_does_not_touch_the_pictures(picture):
    row = sheet_row(picture, moved=2)
    before = row.original.copy(), row.attacked.copy()
    contact_sheet([row], "title")
    np.testing.assert_array_equal(row.original, before[0])
    np.testing.assert_array_equal(row.attacked, before[1])

"""Choose what a report shows of localizers that judge attacks on each other, and of images as a whole."""

from __future__ import annotations

import shlex

from afbench.reports.image_figure import image_drawings
from afbench.reports.image_table import image_cells, image_csv, image_latex, score_notes, shown_records
from afbench.reports.report_page import ReportGap, ReportSection, ReportTable
from afbench.reports.transfer_figure import has_attacks, transfer_drawing
from afbench.reports.transfer_tables import transfer_csv, transfer_grids, transfer_latex
from afbench.storage.manifests import AUTHENTIC

from .report_inputs import ReportInputs
from .report_sections import evaluate_command


def transfer_section(inputs: ReportInputs, missing: list[ReportGap]) -> ReportSection:
    """Return a figure and a table for each evaluation of several localizers; say in ``missing`` that there is none."""
    title = "Attacks on one localizer, judged by others"
    matrices = [evaluation.transfer for evaluation in inputs.evaluations if has_attacks(evaluation.transfer)]
    if not matrices:
        missing.append(
            ReportGap(
                title,
                "No evaluation is of several localizers. Run this, and name its --out among the report's folders:",
                f"afbench evaluate --data {_folder(inputs)} --localizer NAME --localizer LABEL=NAME@CHECKPOINT --out transfer",
            )
        )
    tables = [
        ReportTable(
            "transfer" if number == 1 else f"transfer-{number}",
            "Attackers and victims",
            "Rows are the localizers whose gradients an attack used, columns those that judge. RP is in percent of the judge's own F1 on "
            "the originals; ! where that is below the F1 of a mask that calls every pixel forged.",
            transfer_grids(records),
            transfer_latex(records),
            transfer_csv(records),
        )
        for number, records in enumerate(matrices, 1)
    ]
    return ReportSection(
        title,
        "Whether an attack also works on networks that it did not know.",
        [transfer_drawing(records) for records in matrices],
        tables,
    )


def image_section(inputs: ReportInputs, missing: list[ReportGap]) -> ReportSection:
    """Return figures and the table of whole images, by one score of an image; say in ``missing`` what they need."""
    title = "Images as a whole: forged against authentic"
    records = shown_records(inputs.image_level)
    if not records:
        has_authentic = any(AUTHENTIC in benchmark.configs for benchmark in inputs.benchmarks)
        missing.append(
            ReportGap(
                title,
                "No authentic image was localized. Run this, and name its --out among the report's folders:",
                f"{evaluate_command(inputs)} --out evaluation",
            )
            if has_authentic
            else ReportGap(
                title,
                "They need authentic images beside the forged ones. Add those of the sources to the benchmark, and evaluate it:",
                f"afbench generate --localizer reference --attack fgsm --authentic --out {_folder(inputs)}",
            )
        )
        return ReportSection(title, "")
    localizers = list(dict.fromkeys(record["localizer"] for record in records))
    grids = [
        image_cells([record for record in records if record["localizer"] == localizer])
        for localizer in localizers
    ]
    for localizer, grid in zip(localizers, grids, strict=True):
        for number, row in enumerate(grid):
            row.insert(0, localizer if number else "localizer")
    table = ReportTable(
        "image-level",
        "Forged images told from authentic ones",
        f"Each image by one number: {score_notes(records)}. Authentic images are never attacked. The CSV has every score.",
        grids,
        image_latex(records),
        image_csv(inputs.image_level),
    )
    return ReportSection(
        title,
        "Whether a localizer still tells which images are forged at all; apart from F1 and RP, which are of pixels.",
        list(image_drawings(records)),
        [table],
    )


def _folder(inputs: ReportInputs) -> str:
    return shlex.quote(str(inputs.benchmarks[0].folder)) if inputs.benchmarks else "OUT"

"""Score folders as `afbench score` writes them, made from random counts."""

import hashlib
import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from afbench.scoring.score_tables import build_tables

VERSION = "0123456789ab"
PIXELS = 4000
GRID = (
    ("clean", None, 0),
    ("fgsm", 2, 0),
    ("pgd", 1, 10),
    ("pgd", 3, 10),
    ("cw", None, 50),
    ("cw", None, 250),
    ("noise", 1, 0),
)


def per_image(kept=0.5, *, localizers=("reference",), sources=None, grid=GRID, seed=0):
    """Rows of a benchmark behind a defence that keeps ``kept`` of what an attack takes; ``seed`` is the defence's own noise."""
    sources = {"demo": 12, "synthetic": 8} if sources is None else sources
    noise, rows = np.random.default_rng(seed), []
    for localizer in localizers:
        for source, count in sources.items():
            facts = np.random.default_rng([*f"{localizer}/{source}".encode()])
            original = facts.uniform(0.5, 0.95, count)
            for attack, phi, steps in grid:
                strength = (phi or steps / 80) / 3
                taken = {"clean": 0.0, "noise": 0.02, "fgsm": 0.5, "pgd": 0.8, "cw": 0.9}.get(attack, 0.7)
                undefended = original * (
                    1 - taken * min(1.0, 0.6 + 0.4 * strength) * facts.uniform(0.8, 1, count)
                )
                f1 = undefended + kept * (original - undefended) + noise.normal(0, 0.03, count)
                if attack == "clean":
                    f1 = original * (0.9 + 0.1 * noise.random(count))
                label = attack if attack == "clean" else f"{localizer}-{attack}-{phi or steps}"
                for sample in range(count):
                    rows.append(
                        {
                            "localizer": localizer,
                            "source": source,
                            "config": label,
                            "attack": attack,
                            "phi": float("nan") if phi is None else phi / 255,
                            "steps": steps,
                            "sample_id": f"{source}-{sample:03d}",
                            **counts(f1[sample]),
                            "f1_original": original[sample],
                            "f1_undefended": undefended[sample],
                            "auc": float("nan"),
                            "f1_best": float("nan"),
                        }
                    )
    return pd.DataFrame(rows)


def counts(f1):
    """Counts of a mask of 1000 forged pixels whose F1 is close to ``f1``."""
    tp = round(1000 * min(max(f1, 0.0), 1.0))
    return {"tp": tp, "fp": 1000 - tp, "fn": 1000 - tp, "tn": PIXELS - 2000 + tp}


def about(name, table, **changes):
    """A score.json, its intervals of few draws; ``changes`` replace keys, those of ``defence`` one by one."""
    defence = {
        "type": name,
        "deterministic": True,
        "seed": None,
        "trained_on": [],
        "params": {},
        "extra_data": "",
    }
    defence |= changes.pop("defence", {})
    found = {
        "schema_version": 1,
        "submission_id": name,
        "display_name": name,
        "authors": ["A. Author"],
        "date": "2026-11-21",
        "paper_url": "",
        "code_url": "",
        "defence": defence,
        "attack_knowledge": "oblivious",
        "content_sha256": hashlib.sha256(name.encode()).hexdigest(),
        "afbench_version": "0.1.0",
        "dataset": {"name": "demo", "version": VERSION, "manifest_sha256": VERSION + "0" * 52},
        "dataset_version": VERSION,
        "rankable": True,
        "missing": 0,
        "untrained": False,
        "warnings": [],
        **_tables(table, tuple(defence["trained_on"])),
    }
    return found | changes


def _tables(table, seen):
    """``build_tables`` of few draws; made once for equal rows, since tests ask for the same ones often."""
    key = seen, table.to_csv(index=False)
    if key not in _MADE:
        _MADE[key] = build_tables(table, seen_in_training=seen, draws=50)
    return _MADE[key]


_MADE = {}


def write_score(folder, name, table, **changes):
    """Write a score folder and return it."""
    folder = folder / name
    folder.mkdir(parents=True)
    (folder / "score.json").write_text(json.dumps(about(name, table, **changes), sort_keys=True, indent=2))
    write_rows(folder, table)
    return folder


def write_rows(folder, table):
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), stream)
    (folder / "per_image.parquet").write_bytes(stream.getvalue())

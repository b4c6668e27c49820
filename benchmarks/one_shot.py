"""The intake as one pandas script writes it, with all rows in memory: what ours is measured by."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, NumberColumn
from fl_assets.consortium import SplitFractions
from fl_assets.site.partitions import PARTS, deal_parts


def one_shot(
    source: Path, home: Path, spec: CohortSpec, fractions: SplitFractions
) -> dict[str, int]:
    """Validate, deduplicate, deal and describe the rows of a file; every line has all its fields.

    Args:
        source: delimited text.
        home: folder for the Parquet files, their manifest and the profile.
        spec: the cohort; values are spelt as it names them.
        fractions: of the split.

    Returns:
        Rows accepted, quarantined and duplicate, and rows of each part.
    """
    raw = pd.read_csv(source, dtype=str, keep_default_na=False)
    for name in raw:
        raw[name] = raw[name].str.strip()
    typed, reasons = _check(raw, spec)
    bad = reasons != ""
    quarantine = raw[bad].assign(reason=reasons[bad].str.removesuffix("; "))
    fit = typed[~bad]
    superseded = fit.duplicated(spec.key_column, keep="last")
    duplicates = fit[superseded]
    whole = {c.name: "int8" for c in spec.columns if c.kind == "flag" and not c.nullable}
    records = fit[~superseded].astype(whole | {spec.label.column: "int8"})
    records = records.sort_values(spec.key_column, ignore_index=True)
    dealt = deal_parts(records[spec.key_column], fractions)
    parts = {part: records[dealt == part] for part in PARTS}
    frames = {"records": records, "quarantine": quarantine, "duplicates": duplicates, **parts}
    manifest = {name: _write(home / f"{name}.parquet", frame) for name, frame in frames.items()}
    (home / "manifest.json").write_text(json.dumps(manifest))
    (home / "profile.json").write_text(json.dumps(_describe(parts["train"], spec)))
    return {name: len(frame) for name, frame in frames.items()}


def _check(raw: pd.DataFrame, spec: CohortSpec) -> tuple[pd.DataFrame, pd.Series[str]]:
    """Return typed rows and the reasons that hold each back, one after another."""
    typed = pd.DataFrame(index=raw.index)
    reasons = pd.Series("", index=raw.index)
    markers = list(spec.missing_markers)
    for name in spec.frame_columns:
        column = None if name in (spec.key_column, spec.label.column) else spec.column(name)
        missing = raw[name].isin(markers)
        values = raw[name].mask(missing)
        if name == spec.key_column:
            typed[name] = values
        elif isinstance(column, CategoryColumn):
            typed[name] = values
            strange = ~values.isin(column.categories) & ~missing
            reasons[strange] += f"{name}: not an allowed category; "
        else:
            typed[name] = pd.to_numeric(values, errors="coerce")
            wrong = typed[name].isna() & ~missing
            reasons[wrong] += f"{name}: not a number; "
            if isinstance(column, NumberColumn):
                low, high = column.range
                outside = (typed[name] < low) | (typed[name] > high)
                reasons[outside] += f"{name}: outside {low:g} to {high:g}; "
            else:
                strange = ~typed[name].isin([0, 1]) & ~wrong & ~missing
                reasons[strange] += f"{name}: neither 0 nor 1; "
        if column is None or not column.nullable:
            reasons[missing] += f"{name}: missing; "
    return typed, reasons


def _write(path: Path, frame: pd.DataFrame) -> dict[str, Any]:
    frame.to_parquet(path, compression="zstd", index=False)
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    content = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    return {
        "rows": len(frame),
        "sha256": sha256,
        "version": hashlib.sha256(content.tobytes()).hexdigest()[:16],
    }


def _describe(train: pd.DataFrame, spec: CohortSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"label": train[spec.label.column].value_counts().to_dict()}
    for column in spec.columns:
        values = train[column.name].dropna()
        described: dict[str, Any] = {"missing": len(train) - len(values)}
        if isinstance(column, NumberColumn):
            shifted = values - column.public.center
            described["histogram"] = np.histogram(values, np.asarray(column.bins))[0].tolist()
            described["moments"] = [len(values), shifted.sum(), (shifted**2).sum()]
        else:
            described["counts"] = values.value_counts().to_dict()
        found[column.name] = described
    return found

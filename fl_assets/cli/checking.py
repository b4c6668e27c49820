"""A file checked against the cohort's contract, as every command shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from fl_assets.cli.output import out

if TYPE_CHECKING:
    from fl_assets.cohorts.contract import Counts
    from fl_assets.cohorts.spec import CohortSpec


@dataclass(frozen=True)
class FileCheck:
    """What intake would make of a file.

    Attributes:
        file: which.
        cohort, contract: name and version of the cohort's spec.
        counts: where its rows would go.
        lines: of the rows that each reason holds back.
    """

    file: Path
    cohort: str
    contract: str
    counts: Counts
    lines: dict[str, list[int]]

    @property
    def quarantined_share(self) -> float:
        """Share of the rows that would go to quarantine."""
        return self.counts.quarantined / max(self.counts.rows_in, 1)


def check_file(file: Path, spec: CohortSpec) -> FileCheck:
    """Check a file as intake does, in bounded memory but eight bytes per row that fits.

    Raises:
        BadDataError: it would be refused as a whole, or cannot be read.
    """
    import numpy as np
    import pandas as pd

    from fl_assets.cohorts.contract import REASON, Counts
    from fl_assets.cohorts.reader import LINE
    from fl_assets.cohorts.screen import checked_batches
    from fl_assets.cohorts.source import open_file

    lines: dict[str, list[int]] = {}
    ids = [np.empty(0, np.uint64)]
    held = 0
    with open_file(file) as stream:
        for batch in checked_batches(stream, spec, file.name):
            ids.append(pd.util.hash_array(batch.fit[spec.key_column].to_pandas().to_numpy()))
            held += len(batch.quarantine)
            for line, reasons in zip(batch.quarantine[LINE], batch.quarantine[REASON], strict=True):
                for reason in reasons.split("; "):
                    lines.setdefault(reason, []).append(int(line))
    fit = sum(map(len, ids))
    different = len(np.unique(np.concatenate(ids)))
    counts = Counts(fit + held, different, held, fit - different)
    ordered = dict(sorted(lines.items(), key=lambda item: -len(item[1])))
    return FileCheck(file, spec.name, spec.version, counts, ordered)


def check_json(check: FileCheck) -> dict[str, Any]:
    """Return a check for a program."""
    return {
        "file": str(check.file),
        "cohort": check.cohort,
        "contract": check.contract,
        "rows_in": check.counts.rows_in,
        "accepted": check.counts.accepted,
        "quarantined": check.counts.quarantined,
        "duplicates": check.counts.duplicates,
        "reasons": {reason: len(lines) for reason, lines in check.lines.items()},
        "lines": check.lines,
    }


def show_check(check: FileCheck) -> None:
    """Show a check to a person."""
    counts = check.counts
    out.print(f"{check.file.name}: {counts.rows_in} rows for cohort {check.cohort}")
    out.print(f"  accepted     {counts.accepted}")
    out.print(f"  quarantined  {counts.quarantined}")
    show_reasons(check.lines)
    twice = " (an id stands more than once; the last counts)" if counts.duplicates else ""
    out.print(f"  duplicates   {counts.duplicates}{twice}")


def show_reasons(lines: dict[str, list[int]]) -> None:
    """Show why rows are held back, with their first lines."""
    for reason, held in lines.items():
        first = ", ".join(map(str, held[:5])) + (", ..." if len(held) > 5 else "")
        out.print(f"    {len(held):>6}  {escape(reason)}  (line {first})", soft_wrap=True)

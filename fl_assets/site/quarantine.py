"""What is held back of a hospital's uploads, and why."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from fl_assets.cohorts.contract import REASON
from fl_assets.cohorts.reader import LINE, PROBLEM, TEXT
from fl_assets.config import StrictModel
from fl_assets.errors import FlAssetsError
from fl_assets.site import rows
from fl_assets.site.intake import load_intake, new_uploads
from fl_assets.site.upload_rows import aside_key
from fl_assets.site.uploads import INCOMING, Upload
from fl_assets.storage import ObjectNotFoundError, SiteStore


class RowsFileError(FlAssetsError):
    """The file for the rows cannot be written as it must be."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} cannot be written ({why}): name a new file in a folder of yours")


class QuarantineReport(StrictModel):
    """What the last intake made of every upload: counts, reasons and names of files alone.

    Attributes:
        uploads: in the order they arrived.
        blocked: by key, why an upload keeps the records from changing; empty where nothing does.
        ignored: keys in ``incoming/`` that are no uploads: parts and drafts.
        outdated: whether something was uploaded or removed since.
    """

    uploads: tuple[Upload, ...]
    blocked: dict[str, str]
    ignored: tuple[str, ...]
    outdated: bool

    @property
    def held_back(self) -> list[Upload]:
        """The uploads that are refused or have a row in quarantine."""
        return [upload for upload in self.uploads if upload.quarantined or upload.refused]


def quarantine_report(store: SiteStore) -> QuarantineReport:
    """Return what the last intake held back; needs no row."""
    intake = load_intake(store)
    return QuarantineReport(
        uploads=intake.uploads,
        blocked=intake.blocked,
        ignored=intake.ignored,
        outdated=bool(new_uploads(store)),
    )


def quarantined_lines(store: SiteStore, upload: str) -> dict[str, list[int]]:
    """Return the lines of an upload that each reason holds back.

    Args:
        store: the hospital's own.
        upload: key of the uploaded file.
    """
    found: dict[str, list[int]] = {}
    for frame in _frames(store, upload):
        for line, reasons in zip(frame[LINE], frame[REASON], strict=True):
            for reason in reasons.split("; "):
                found.setdefault(reason, []).append(int(line))
    return found


def write_quarantined_rows(store: SiteStore, path: Path) -> int:
    """Write every row in quarantine as CSV, with upload, line and reasons before it.

    The file holds patients' data: its owner alone can read it, and none is overwritten.

    Returns:
        How many rows.

    Raises:
        RowsFileError: the file is there, or its folder is not.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise RowsFileError(path, str(error.strerror).lower()) from error
    written = 0
    with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for upload in load_intake(store).uploads:
            for frame in _frames(store, upload.key):
                data = frame.drop(columns=[LINE, PROBLEM, TEXT, REASON])
                if not written:
                    writer.writerow(["upload", "line", "reasons", *data.columns, "text"])
                writer.writerows(_cells(upload.key, frame, data))
                written += len(frame)
    return written


def _cells(upload: str, frame: pd.DataFrame, data: pd.DataFrame) -> Iterator[list[Any]]:
    """Yield the cells of each row; of one of the wrong shape its text stands in the last."""
    name = upload.removeprefix(INCOMING)
    columns = (frame[LINE], frame[REASON], data.itertuples(index=False), frame[TEXT])
    for line, reasons, values, text in zip(*columns, strict=True):
        yield [name, line, reasons, *values, text]


def _frames(store: SiteStore, upload: str) -> Iterator[pd.DataFrame]:
    try:
        for table in rows.read_batches(store, aside_key(upload, "rows")):
            yield table.to_pandas()
    except ObjectNotFoundError:
        # None of its rows is held back.
        return

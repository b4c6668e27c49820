"""Taking one patient's rows out of an upload, and leaving all else of it as it is."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import tempfile
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fl_assets.cohorts.formats import ParquetUpload, TextUpload, open_upload
from fl_assets.cohorts.reader import DELIMITERS, LINE, TEXT, read_batches
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.storage import ObjectInfo, SiteStore

_GZIP = b"\x1f\x8b"
_ROWS = 50_000
_SEPARATOR = re.compile(f"[{re.escape(DELIMITERS)}]")


class Span(NamedTuple):
    """Lines of a file from ``start``, counted from 1, up to before ``stop``; None is its end."""

    start: int
    stop: int | None


class Found(NamedTuple):
    """A patient's rows in an upload.

    Attributes:
        spans: where they are.
        others: rows of other patients.
    """

    spans: list[Span]
    others: int


def holds(frame: pd.DataFrame, key: str, patient_id: str) -> pd.Series[bool]:
    """Tell for each raw row whether it may be a patient's.

    A row of the wrong shape is, where any of its fields is the id: which column a field belongs to
    cannot be said.
    """
    mine = frame[key] == patient_id if key in frame else pd.Series(False, index=frame.index)
    if TEXT in frame:
        texts = frame[TEXT].dropna()
        fields = texts.map(lambda text: [field.strip() for field in _SEPARATOR.split(text)])
        mine = mine | fields.map(lambda found: patient_id in found).reindex(
            frame.index, fill_value=False
        ).astype(bool)
    return mine


def find_patient(store: SiteStore, info: ObjectInfo, spec: CohortSpec, patient_id: str) -> Found:
    """Find a patient's rows in one version of an upload.

    Raises:
        BadDataError: the file cannot be read as a whole.
    """
    spans: list[Span] = []
    others, begun = 0, None
    with store.open(info.key, info.version) as stream:
        for batch in read_batches(stream, spec, info.key, _ROWS):
            mine = holds(batch, spec.key_column, patient_id)
            others += int((~mine).sum())
            # A row reaches to the next one; between them are at most lines without text.
            for line, is_mine in zip(batch[LINE].tolist(), mine.tolist(), strict=True):
                if begun is not None:
                    spans.append(Span(begun, line))
                begun = line if is_mine else None
    if begun is not None:
        spans.append(Span(begun, None))
    return Found(spans, others)


def rewrite(store: SiteStore, info: ObjectInfo, spans: list[Span]) -> ObjectInfo:
    """Store an upload anew under its key, without some lines; every other byte stays.

    The format, the encoding and the compression stay as they are. The copy passes through a
    temporary file that only its owner can open.
    """
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="fla-erase-"))
        path = Path(scratch) / "upload"
        stream = stack.enter_context(store.open(info.key, info.version))
        if spans:
            _copy_without(stream, info.key, path, spans)
        else:
            # As it is, for it may be a file that nobody can read.
            with path.open("wb") as copy:
                shutil.copyfileobj(stream, copy)
        return store.put_file(info.key, path)


def _copy_without(stream: BinaryIO, name: str, path: Path, spans: list[Span]) -> None:
    upload = open_upload(stream, name)
    stream.seek(0)
    if isinstance(upload, ParquetUpload):
        _copy_parquet(stream, path, spans)
    else:
        _copy_text(stream, path, upload, spans)


def _copy_text(stream: BinaryIO, path: Path, upload: TextUpload, spans: list[Span]) -> None:
    # Where lines end can be told in Latin-1 for every encoding that keeps ASCII, byte by byte.
    encoding = upload.encoding if upload.encoding.startswith("utf-16") else "latin-1"
    packed = stream.read(len(_GZIP)) == _GZIP
    stream.seek(0)
    with ExitStack() as stack:
        target = stack.enter_context(path.open("wb"))
        if packed:
            stream = cast("BinaryIO", stack.enter_context(gzip.GzipFile(fileobj=stream)))
            target = cast(
                "io.BufferedWriter",
                stack.enter_context(gzip.GzipFile(fileobj=target, mode="wb", filename="")),
            )
        lines = io.TextIOWrapper(stream, encoding, newline="")
        copy = stack.enter_context(io.TextIOWrapper(target, encoding, newline=""))
        gaps = _Gaps(spans)
        copy.writelines(line for number, line in enumerate(lines, start=1) if not gaps.hold(number))


def _copy_parquet(stream: BinaryIO, path: Path, spans: list[Span]) -> None:
    file = pq.ParquetFile(stream)
    gaps, numbers = _Gaps(spans), count(1)
    with pq.ParquetWriter(path, file.schema_arrow) as writer:
        for batch in file.iter_batches(_ROWS):
            kept = [not gaps.hold(next(numbers)) for _ in range(batch.num_rows)]
            writer.write_batch(batch.filter(pa.array(kept)))


class _Gaps:
    """Tells of ascending line numbers whether they lie in a span."""

    def __init__(self, spans: list[Span]) -> None:
        self._spans = sorted(spans, key=lambda span: span.start)

    def hold(self, number: int) -> bool:
        while self._spans and self._spans[0].stop is not None and self._spans[0].stop <= number:
            del self._spans[0]
        return bool(self._spans) and number >= self._spans[0].start

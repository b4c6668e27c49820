"""Values that stand nowhere else, planted among patients, and a search for them."""

from __future__ import annotations

import gzip
import io
import re
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, NumberColumn
from fl_assets.cohorts.synthetic import generate
from fl_assets.storage.policies import MANIFESTS

MARK = "ZEISIG"
_SQLITE = b"SQLite format 3\0"


def number(place: int) -> str:
    """Decimals that stand nowhere else, for the column at that place.

    Nine of them, since a time of day in microseconds has six.
    """
    return f"{739_517_283 + 1_009_357 * place}"


class Needles:
    """What no file outside a hospital's store may hold.

    Texts, and the planted numbers as programs store them: eight bytes, or four, of either end
    first, as they are and scaled to a feature.

    Args:
        spec: the cohort.
        files: in which they were planted.
    """

    def __init__(self, spec: CohortSpec, files: list[bytes]) -> None:
        decimals = [number(place).encode() for place in range(len(spec.columns))]
        self.texts = [MARK.encode(), MARK.lower().encode(), *decimals]
        values: list[float] = []
        for place, column in enumerate(spec.columns):
            if isinstance(column, NumberColumn):
                pattern = re.compile(rb"\d+\." + decimals[place])
                plain = {float(text) for data in files for text in pattern.findall(data)}
                public = column.public
                assert plain, column.name
                values += plain
                values += [(value - public.center) / public.scale for value in plain]
        self._doubles = _patterns(values, "8")
        self._floats = _patterns(values, "4")

    def within(self, data: bytes, *, floats: bool = True) -> list[str]:
        """Return those that are in some bytes.

        Four bytes are there by chance now and then, so three of them are asked for, and none in a
        database, where there are megabytes of something else.
        """
        found = [text.decode() for text in self.texts if text in data]
        if _count(self._doubles, data, 8):
            found.append("a number of eight bytes")
        if floats and _count(self._floats, data, 4) >= 3:
            found.append("numbers of four bytes")
        return found


def _patterns(values: list[float], size: str) -> np.ndarray:
    """Return the bytes of numbers, of either end first, as sorted integers."""
    packed = (np.array(values, dtype=f"{order}f{size}").tobytes() for order in "<>")
    return np.unique(np.concatenate([np.frombuffer(each, f"<u{size}") for each in packed]))


def _count(patterns: np.ndarray, data: bytes, size: int) -> int:
    """Return how many of the patterns are somewhere in the bytes."""
    found: set[int] = set()
    for start in range(min(size, len(data) - size + 1)):
        words = np.frombuffer(data, f"<u{size}", count=(len(data) - start) // size, offset=start)
        found.update(np.intersect1d(words, patterns).tolist())
    return len(found)


def planted(spec: CohortSpec, rows: int, seed: int, name: str) -> bytes:
    """A file of made-up patients with canaries in every column.

    Every id is one, every number of every second row that fits has one as decimals, and behind the
    rows that fit come rows that do not, with one in each column and one in a field too many.
    """
    frame = generate(spec, rows, seed)
    frame[spec.key_column] = [f"{MARK}-{name}-{row}" for row in range(rows)]
    for place, column in enumerate(spec.columns):
        if isinstance(column, NumberColumn):
            # Within the range, since the generator leaves room at both ends.
            whole = frame[column.name].str.fullmatch(r"\d+(\.\d+)?") & (frame.index % 2 == 0)
            kept = frame[column.name].str.partition(".")[0]
            frame.loc[whole, column.name] = kept[whole] + "." + number(place)
    lines = frame.to_csv(index=False, lineterminator="\n").splitlines()
    good = lines[1].split(",")
    for place, column_name in enumerate(spec.file_columns):
        bad = [*good]
        bad[place] = "" if column_name == spec.key_column else f"{MARK}{column_name}"
        lines.append(",".join(bad))
    lines.append(",".join([*good, f"{MARK}shape"]))
    return "".join(line + "\n" for line in lines).encode()


def refused(spec: CohortSpec) -> dict[str, bytes]:
    """Whole files of canaries that no reader accepts."""
    fields = [f"{MARK}{column}" for column in spec.file_columns]
    row = ",".join(fields)
    header = ",".join(spec.file_columns)
    return {
        "no-header.csv": f"{row}\n{row}\n".encode(),
        "quotes.csv": f'{header}\n"{MARK}"x{row}\n'.encode(),
        "cut.csv": f"{header}\n{row}\n{MARK}".encode(),
        "binary.csv": f"{header}\n{row}\0\n".encode(),
        "damaged.csv.gz": gzip.compress(f"{header}\n{row}\n".encode())[:-9],
    }


def categories(spec: CohortSpec) -> list[str]:
    """Names of the category columns."""
    return [column.name for column in spec.columns if isinstance(column, CategoryColumn)]


def leaks(folder: Path, searched: Needles, without: Path) -> dict[str, list[str]]:
    """Return the files outside ``without`` that hold a needle, and which ones.

    Databases are searched statement by statement and archives file by file as well, since long
    texts lie in pieces, or packed, on disk.
    """
    return _found_in((p for p in folder.rglob("*") if not p.is_relative_to(without)), searched)


def leaks_to_coordinator(site: Path, searched: Needles) -> dict[str, list[str]]:
    """Return the objects of a hospital's store that hold a needle though others may read them."""
    readable = {path for pattern in MANIFESTS for path in site.glob(pattern.replace("*", "**/*"))}
    assert readable
    return _found_in(readable, searched)


def _found_in(paths: Iterable[Path], searched: Needles) -> dict[str, list[str]]:
    found = {}
    for path in sorted(paths):
        if path.is_file() and not path.is_symlink():
            hits = {
                n for data, floats in _contents(path) for n in searched.within(data, floats=floats)
            }
            if hits:
                found[str(path)] = sorted(hits)
    return found


def _contents(path: Path) -> Iterator[tuple[bytes, bool]]:
    """What to search, and whether for numbers of four bytes as well."""
    data = path.read_bytes()
    yield data, not data.startswith(_SQLITE)
    if data.startswith(_SQLITE):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            yield "\n".join(database.iterdump()).encode(), False
    elif zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from ((archive.read(name), True) for name in archive.namelist())
    elif data.startswith(b"\x1f\x8b"):
        with suppress(EOFError):
            yield gzip.decompress(data), True

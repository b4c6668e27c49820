"""Values that stand nowhere else, planted among patients, and a search for them."""

from __future__ import annotations

import gzip
import io
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, NumberColumn
from fl_assets.cohorts.synthetic import generate

MARK = "ZEISIG"
_SQLITE = b"SQLite format 3\0"


def number(place: int) -> str:
    """Decimals that stand nowhere else, for the column at that place."""
    return f"{739_517 + 1_009 * place}"


def needles(spec: CohortSpec) -> list[bytes]:
    """What no file outside a hospital's store may hold."""
    decimals = [number(place).encode() for place in range(len(spec.columns))]
    return [MARK.encode(), MARK.lower().encode(), *decimals]


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


def leaks(folder: Path, searched: list[bytes], without: Path) -> dict[str, list[str]]:
    """Return the files outside ``without`` that hold a needle, and which ones.

    Databases are searched statement by statement and archives file by file as well, since long
    texts lie in pieces, or packed, on disk.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink() or path.is_relative_to(without):
            continue
        hits = {n.decode() for data in _contents(path) for n in searched if n in data}
        if hits:
            found[str(path.relative_to(folder))] = sorted(hits)
    return found


def _contents(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    yield data
    if data.startswith(_SQLITE):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            yield "\n".join(database.iterdump()).encode()
    elif zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    elif data.startswith(b"\x1f\x8b"):
        with suppress(EOFError):
            yield gzip.decompress(data)

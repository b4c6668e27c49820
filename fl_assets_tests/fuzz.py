"""Good files with damages that transfers, exports and editors do to them, drawn at random."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable

from fl_assets_tests.damage import as_file, as_parquet

Change = Callable[[list[str], random.Random], None]


def fuzzed(whole: bytes, draw: random.Random) -> bytes:
    """A good file with a damage; more than a fifth of its rows are hit, or the file as a whole."""
    return draw.choice(_DAMAGES)(whole, draw)


def hardly_damaged(whole: bytes, draw: random.Random) -> bytes:
    """A good file of which one row is hit, in any format."""
    lines = whole.decode().splitlines()
    row = draw.choice([len(lines) - 1, draw.randrange(1, len(lines))])
    fields = lines[row].split(",")
    if draw.random() < 0.5:
        _noise(fields, draw)
    else:
        # The last field is one letter.
        fields[-1] = ""
    lines[row] = ",".join(fields)
    return draw.choice(_FORMATS)(lines)


def _cut(whole: bytes, draw: random.Random) -> bytes:
    # Inside a row: where a line ends, nothing tells that there were more.
    lines = whole.splitlines(keepends=True)
    last = draw.randrange(1, len(lines))
    return b"".join(lines[:last]) + lines[last][: draw.randrange(1, 20)]


def _cut_at_line_end(whole: bytes, draw: random.Random) -> bytes:
    # More than a half: what is left is a file like any other, and only its length tells.
    lines = whole.decode().splitlines()
    return draw.choice(_FORMATS)(lines[: draw.randrange(2, len(lines) // 2)])


def _cut_in_last_field(whole: bytes, draw: random.Random) -> bytes:
    lines = whole.decode().splitlines()
    left = lines[: draw.randrange(2, len(lines) // 2)]
    return draw.choice(_FORMATS)([*left[:-1], left[-1][:-1]])


def _packed_lines(lines: list[str]) -> bytes:
    return gzip.compress(as_file(lines))


_FORMATS: list[Callable[[list[str]], bytes]] = [as_file, _packed_lines, as_parquet]


def _in_most_rows(whole: bytes, draw: random.Random, change: Change) -> bytes:
    lines = whole.decode().splitlines()
    for row in draw.sample(range(1, len(lines)), k=draw.randint(len(lines) // 3, len(lines) - 1)):
        fields = lines[row].split(",")
        change(fields, draw)
        lines[row] = ",".join(fields)
    return as_file(lines)


def _noise(fields: list[str], draw: random.Random) -> None:
    fields[draw.choice([2, 3, 4, 8])] = draw.choice(["x", "1;5", "-1", "1e9", "NaN!", "\u00b5"])


def _glue(fields: list[str], draw: random.Random) -> None:
    place = draw.randrange(len(fields) - 1)
    fields[place : place + 2] = [";".join(fields[place : place + 2])]


def _bytes(whole: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(whole))
    return whole[:place] + b"\0" + draw.randbytes(draw.randint(1, 40)) + whole[place:]


def _quote(whole: bytes, draw: random.Random) -> bytes:
    lines = whole.splitlines()
    lines[draw.randrange(1, len(lines))] += b'"'
    return b'"' + b"\n".join(lines) + b"\n"


def _header(whole: bytes, draw: random.Random) -> bytes:
    header, _, rest = whole.partition(b"\n")
    fields = header.split(b",")
    fields.pop(draw.randrange(len(fields)))
    return b",".join(fields) + b"\n" + rest


def _empty(whole: bytes, draw: random.Random) -> bytes:
    return draw.choice([b"", b"\n", whole.partition(b"\n")[0], b" \r\n,,,\r\n"])


def _packed(whole: bytes, draw: random.Random) -> bytes:
    packed = gzip.compress(whole)
    return packed[: draw.randrange(20, len(packed) - 8)]


_DAMAGES: list[Callable[[bytes, random.Random], bytes]] = [
    _cut,
    lambda whole, draw: _in_most_rows(whole, draw, _noise),
    lambda whole, draw: _in_most_rows(whole, draw, _glue),
    _bytes,
    _quote,
    _header,
    _empty,
    _packed,
    _cut_at_line_end,
    _cut_in_last_field,
]

import gzip
import io
import tracemalloc

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_assets.cohorts import formats, reader
from fl_assets.cohorts.reader import (
    DELIMITERS,
    LINE,
    PROBLEM,
    TEXT,
    HeaderError,
    NotTextError,
    read_batches,
    read_rows,
)
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.errors import BadDataError
from fl_assets_tests.damage import EDITS, REFUSED, Edit, as_file, damaged, good_lines


@pytest.fixture(scope="module")
def lines(stroke: CohortSpec) -> list[str]:
    return good_lines(stroke)


@pytest.fixture(scope="module")
def expected(lines: list[str]) -> pd.DataFrame:
    """What pandas reads from the good file."""
    return pd.read_csv(io.BytesIO(as_file(lines)), dtype=str, keep_default_na=False)


def read(data: bytes, spec: CohortSpec) -> pd.DataFrame:
    frame = read_rows(data, spec, "upload.csv")
    assert list(frame) == [LINE, PROBLEM, TEXT, *spec.file_columns]
    return frame


def same_rows(data: bytes, spec: CohortSpec, expected: pd.DataFrame) -> bool:
    frame = read(data, spec)
    assert frame[[PROBLEM, TEXT]].isna().all(axis=None)
    return frame[spec.file_columns].equals(expected[spec.file_columns])


def test_a_good_file(lines: list[str], stroke: CohortSpec, expected: pd.DataFrame) -> None:
    assert same_rows(as_file(lines), stroke, expected)
    assert read(as_file(lines), stroke)[LINE].tolist() == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_throughout(
    delimiter: str, lines: list[str], stroke: CohortSpec, expected: pd.DataFrame
) -> None:
    other = [line.replace(",", delimiter) for line in lines]
    assert same_rows(as_file(other), stroke, expected)


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n\n", "\n , ,\n"])
def test_line_ends_and_rows_without_text(
    end: str, lines: list[str], stroke: CohortSpec, expected: pd.DataFrame
) -> None:
    assert same_rows(as_file(lines, end), stroke, expected)


def test_a_byte_order_mark(lines: list[str], stroke: CohortSpec, expected: pd.DataFrame) -> None:
    assert same_rows(b"\xef\xbb\xbf" + as_file(lines), stroke, expected)


@pytest.mark.parametrize("first", ["\n\n", "   \r\n", ",,,\n", ";;;\n"])
def test_text_starts_late(
    first: str, lines: list[str], stroke: CohortSpec, expected: pd.DataFrame
) -> None:
    assert same_rows(first.encode() + as_file(lines), stroke, expected)


def test_the_last_line_may_end_the_file(
    lines: list[str], stroke: CohortSpec, expected: pd.DataFrame
) -> None:
    assert same_rows(as_file(lines)[:-1], stroke, expected)


def test_everything_quoted(lines: list[str], stroke: CohortSpec, expected: pd.DataFrame) -> None:
    quoted = ['"' + line.replace(",", '","') + '"' for line in lines]
    assert same_rows(as_file(quoted), stroke, expected)


def test_columns_in_another_order(
    lines: list[str], stroke: CohortSpec, expected: pd.DataFrame
) -> None:
    turned = [",".join(reversed(line.split(","))) for line in lines]
    assert same_rows(as_file(turned), stroke, expected)


def test_spaces_around_fields(lines: list[str], stroke: CohortSpec, expected: pd.DataFrame) -> None:
    assert same_rows(as_file([line.replace(",", " , ") for line in lines]), stroke, expected)


def test_quoted_fields_keep_commas_quotes_and_line_ends(
    lines: list[str], stroke: CohortSpec
) -> None:
    tricky = lines[1].split(",")
    tricky[1] = '"a, ""b""\nc"'
    frame = read(as_file([lines[0], ",".join(tricky), *lines[2:]]), stroke)
    assert frame.loc[0, "gender"] == 'a, "b"\nc'
    # A row of two lines is known by its first, and the rows after it by theirs.
    assert frame[LINE].tolist() == [2, 4, 5, 6, 7, 8]


def test_a_second_delimiter_in_some_rows(
    lines: list[str], stroke: CohortSpec, expected: pd.DataFrame
) -> None:
    mixed = [*lines[:2], lines[2].replace(",", ";"), lines[3] + ",extra", *lines[4:]]
    frame = read(as_file(mixed), stroke)
    assert frame[PROBLEM].dropna().to_dict() == {
        1: "1 fields where the header has 12",
        2: "13 fields where the header has 12",
    }
    assert frame[TEXT].dropna().to_dict() == {1: mixed[2], 2: mixed[3]}
    assert frame.loc[[1, 2], stroke.file_columns].isna().all(axis=None)
    rest = [0, 3, 4, 5]
    assert frame.loc[rest, stroke.file_columns].equals(expected.loc[rest, stroke.file_columns])


def test_a_long_last_row_is_no_broken_transfer(lines: list[str], stroke: CohortSpec) -> None:
    frame = read(as_file([*lines, lines[1] + ",extra"])[:-1], stroke)
    assert frame[PROBLEM].notna().tolist() == [False] * 6 + [True]


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_file(case: str, lines: list[str], stroke: CohortSpec) -> None:
    damage, kind, text = REFUSED[case]
    with pytest.raises(getattr(reader, kind)) as caught:
        read_rows(damage(lines), stroke, "upload.csv")
    assert "upload.csv" in str(caught.value)
    assert text in str(caught.value)


@pytest.mark.parametrize("case", REFUSED)
def test_no_error_quotes_a_value(case: str, lines: list[str], stroke: CohortSpec) -> None:
    marks = [f"canary{place}x" for place in range(12)]
    # The first of each row again at its end, where a header has no second of its name.
    marks[-1] = marks[0]
    rows = [lines[0], *[",".join(marks) for _ in lines[1:]]]
    with pytest.raises(BadDataError) as caught:
        read_rows(REFUSED[case][0](rows), stroke, "upload.csv")
    error: BaseException | None = caught.value
    while error is not None:
        assert "canary" not in str(error)
        # What a traceback would print besides.
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_cut_is_noticed_wherever_a_field_is_lost(
    cut: int, lines: list[str], stroke: CohortSpec
) -> None:
    whole = as_file(lines)[:-1]
    data = whole[:-cut]
    lost = whole.rpartition(b"\n")[2].count(b",") - data.rpartition(b"\n")[2].count(b",")
    if lost and not data.endswith(b"\n"):
        with pytest.raises(reader.TruncatedFileError):
            read_rows(data, stroke, "upload.csv")
    else:
        assert read(data, stroke)[PROBLEM].isna().all()


def test_optional_columns_may_be_absent(lines: list[str], stroke: CohortSpec) -> None:
    without_label = [line.rpartition(",")[0] for line in lines]
    with pytest.raises(HeaderError, match="missing: stroke"):
        read_rows(as_file(without_label), stroke, "upload.csv")
    frame = read_rows(as_file(without_label), stroke, "upload.csv", optional=["stroke"])
    assert list(frame)[3:] == stroke.file_columns[:-1]
    assert "stroke" in read_rows(as_file(lines), stroke, "upload.csv", optional=["stroke"])


@pytest.mark.real_data
def test_the_public_file(stroke: CohortSpec, stroke_csv: object) -> None:
    from pathlib import Path

    path = Path(str(stroke_csv))
    expected = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert same_rows(path.read_bytes(), stroke, expected)
    assert len(expected) == 5110


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"PK\x03\x04", "spreadsheet or ZIP"),
        (b"\xd0\xcf\x11\xe0", "old Excel"),
        (b"PARE", "without encryption"),
        (b"\xfd7zXZ\0", "with xz: compress it with gzip"),
        (b"(\xb5/\xfd", "with Zstandard: compress it with gzip"),
    ],
    ids=["zip", "xls", "encrypted-parquet", "xz", "zstd"],
)
def test_another_format_is_named_with_its_cure(stroke: CohortSpec, start: bytes, said: str) -> None:
    with pytest.raises(NotTextError, match=said):
        read_rows(start + b"\x00\x01more", stroke, "upload")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("quoted", [False, True], ids=["plain", "quoted"])
def test_batches_are_the_rows_wherever_a_block_ends(
    end: str, quoted: bool, stroke: CohortSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = good_lines(stroke, 40)
    lines.insert(7, "")
    lines.insert(20, lines[3] + ",extra")
    if quoted:
        fields = lines[30].split(",")
        lines[30] = ",".join([*fields[:1], f'"a, ""b""{end}c"', *fields[2:]])
    data = as_file(lines, end)
    whole = read_rows(data, stroke, "upload.csv")
    assert len(whole) == 41
    for chunk in (1, 7, 100, 1000):
        monkeypatch.setattr(formats, "CHUNK", chunk)
        batches = list(read_batches(io.BytesIO(data), stroke, "upload.csv", rows=9))
        assert [len(batch) for batch in batches] == [9, 9, 9, 9, 5]
        pd.testing.assert_frame_equal(pd.concat(batches, ignore_index=True), whole)


@settings(max_examples=25, deadline=None)
@given(
    edits=EDITS,
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    delimiter=st.sampled_from(list(DELIMITERS)),
)
def test_the_quick_parser_reads_what_the_csv_module_reads(
    lines: list[str], stroke: CohortSpec, edits: list[Edit], end: str, delimiter: str
) -> None:
    data = as_file([line.replace(",", delimiter) for line in damaged(lines, edits)], end)

    def outcome() -> pd.DataFrame | str:
        try:
            return read_rows(data, stroke, "upload.csv")
        except BadDataError as error:
            return str(error)

    quick = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "parse_block", lambda *_: None)
        slow = outcome()
    if isinstance(quick, str) or isinstance(slow, str):
        assert quick == slow
    else:
        pd.testing.assert_frame_equal(quick, slow)


def test_memory_does_not_grow_with_the_file(
    stroke: CohortSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = good_lines(stroke, 200)
    body = as_file(lines[1:])
    monkeypatch.setattr(formats, "CHUNK", 1 << 16)

    def peak(copies: int) -> int:
        stream = io.BytesIO(gzip.compress(as_file(lines[:1]) + body * copies, 1))
        tracemalloc.start()
        rows = sum(len(b) for b in read_batches(stream, stroke, "upload.csv.gz", rows=1000))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert rows == 200 * copies
        return found

    peak(1)
    assert peak(160) < 2 * peak(40)

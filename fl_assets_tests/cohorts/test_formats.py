"""What an upload is, found by its content."""

from __future__ import annotations

import gzip
import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_assets.cohorts import formats
from fl_assets.cohorts.formats import (
    EncodingError,
    ParquetUpload,
    TextUpload,
    open_upload,
)

TEXT = "id,name\r\n1,Z\u00fcrich \u20ac\n2,S\u00e3o\r3,plain\n"


def read(data: bytes) -> tuple[str, str]:
    upload = open_upload(io.BytesIO(data), "upload")
    assert isinstance(upload, TextUpload)
    text = "".join(upload.blocks())
    return text, upload.encoding


@pytest.mark.parametrize("packed", [False, True], ids=["as-is", "gzip"])
@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16-le"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("cp1252", "windows-1252"),
    ],
    ids=["utf-8", "utf-8-mark", "utf-16-mark", "utf-16-le", "utf-16-be", "windows-1252"],
)
def test_encodings(encoding: str, found: str, packed: bool) -> None:
    data = TEXT.encode(encoding)
    assert read(gzip.compress(data) if packed else data) == (TEXT, found)


def test_utf_16_with_the_other_mark() -> None:
    assert read(b"\xfe\xff" + TEXT.encode("utf-16-be")) == (TEXT, "utf-16-be")


def test_latin_1_is_part_of_windows_1252() -> None:
    text = "a,b\n\u00e4\u00f6\u00fc\u00df,\u00f1\n"
    assert read(text.encode("latin-1")) == (text, "windows-1252")


def test_parquet_is_left_to_who_reads_it() -> None:
    assert isinstance(open_upload(io.BytesIO(b"PAR1 and so on"), "upload"), ParquetUpload)


_LETTERS = st.text(alphabet="aA1,;\n\u00e4\u00df\u20ac\u4e2d\U0001f600", max_size=40)


@given(text=_LETTERS, chunk=st.integers(1, 9), encoding=st.sampled_from(["utf-8", "utf-16"]))
def test_text_is_whole_wherever_a_chunk_ends(text: str, chunk: int, encoding: str) -> None:
    text = "id,x\n" + text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "CHUNK", chunk)
        assert read(text.encode(encoding))[0] == text


@given(text=_LETTERS, chunk=st.integers(1, 9), ends=st.lists(st.sampled_from("\r\n"), max_size=9))
def test_blocks_end_with_lines(text: str, chunk: int, ends: list[str]) -> None:
    text = "id,x\r\n" + text + "".join(ends) + text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "CHUNK", chunk)
        upload = open_upload(io.BytesIO(text.encode()), "upload")
        assert isinstance(upload, TextUpload)
        blocks = list(upload.blocks())
    assert "".join(blocks) == text
    for block, after in pairwise(blocks):
        assert block.endswith(("\n", "\r"))
        assert not (block.endswith("\r") and after.startswith("\n"))


@given(
    words=st.lists(st.sampled_from(["caf\u00e9", "na\u00efve", "\u20ac5", "x"]), min_size=1),
    places=st.data(),
)
def test_a_file_of_two_encodings_never_passes(words: list[str], places: st.DataObject) -> None:
    """Each word in an encoding of its own: read right, or refused."""
    coded = [w.encode(places.draw(st.sampled_from(["utf-8", "cp1252"]))) for w in words]
    try:
        text, _ = read(b"id\n" + b"\n".join(coded) + b"\n")
    except EncodingError:
        return
    assert text == "id\n" + "\n".join(words) + "\n"

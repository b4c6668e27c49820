from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fl_assets.site.uploads import ERASED, Upload, is_upload
from fl_assets.storage import ObjectInfo


def info(key: str, size: int = 7) -> ObjectInfo:
    return ObjectInfo(key, size, "1", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "name",
    ["a.csv", "2026/a.csv", "a", "part.csv", "a.part.csv", "tmp", "a~b.csv", "x.tmp/a.csv", "$a"],
)
def test_an_upload(name: str) -> None:
    assert is_upload(info(f"incoming/{name}"))


@pytest.mark.parametrize(
    "name",
    [
        "a.csv.tmp",
        "a.TMP",
        "a.part",
        "a.partial",
        "a.csv.crdownload",
        "a.filepart",
        "a.csv~",
        ".a.csv",
        "2026/.a.csv",
        "~$a.csv",
        "2026/~$a.csv",
    ],
)
def test_a_part_or_draft(name: str) -> None:
    assert not is_upload(info(f"incoming/{name}"))


def test_an_empty_object_and_one_elsewhere() -> None:
    assert not is_upload(info("incoming/a.csv", size=0))
    assert not is_upload(info("records/a.csv"))
    assert not is_upload(info("incoming.csv"))


def test_the_share_of_bad_rows() -> None:
    upload = Upload(key="k", version="1", rows_in=10, quarantined=4, reasons={"x": 3, ERASED: 1})
    assert upload.bad_share == 0.3
    assert Upload(key="k", version="1").bad_share == 0

import ast
import hashlib
import hmac
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from pyarrow import parquet

from fl_assets.site import rows
from fl_assets.site.rows import (
    DamagedRowsError,
    RowWriter,
    content_hash,
    keyed_version,
    read_batches,
    read_rows,
    site_key,
    table_of,
    write_rows,
)
from fl_assets.storage import FolderStore, ObjectNotFoundError
from fl_assets_tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "fl_assets"


def test_rows_come_back_as_they_went(store: FolderStore, patients: pd.DataFrame) -> None:
    sha256 = write_rows(store, "a/b.parquet", patients)
    pd.testing.assert_frame_equal(read_rows(store, "a/b.parquet"), patients)
    pd.testing.assert_frame_equal(read_rows(store, "a/b.parquet", sha256), patients)
    assert sha256 == hashlib.sha256(store.get("a/b.parquet")).hexdigest()


def test_others_can_read_the_file(
    store: FolderStore, patients: pd.DataFrame, tmp_path: Path
) -> None:
    write_rows(store, "a.parquet", patients)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "hospital/a.parquet"), patients)


def test_no_rows_keep_their_columns(store: FolderStore, patients: pd.DataFrame) -> None:
    write_rows(store, "a.parquet", patients.iloc[:0])
    found = read_rows(store, "a.parquet")
    assert list(found) == list(patients)
    assert found.dtypes.equals(patients.dtypes)


def test_the_same_rows_are_the_same_bytes(store: FolderStore, patients: pd.DataFrame) -> None:
    again = patients.sample(frac=1, random_state=1).sort_index()
    assert write_rows(store, "a", patients) == write_rows(store, "b", again)


def test_no_such_file(store: FolderStore) -> None:
    with pytest.raises(ObjectNotFoundError):
        read_rows(store, "a.parquet")


def test_rows_are_written_and_read_in_bounded_memory(
    store: FolderStore, patients: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "ROW_GROUP", 300)
    whole, table = write_rows(store, "whole.parquet", patients), table_of(patients)
    pieces = [table.slice(start, 170) for start in range(0, len(table), 170)]
    with RowWriter(store, table.schema) as writer:
        for piece in pieces:
            writer.write(piece)
        assert writer.store("pieces.parquet") == whole
        assert writer.rows == len(patients)
    assert store.get("pieces.parquet") == store.get("whole.parquet")
    sizes = [len(batch) for batch in read_batches(store, "whole.parquet", whole, ["id", "age"])]
    assert sizes == [300] * 6 + [200]
    assert content_hash(read_rows(store, "whole.parquet")) == content_hash(patients)


def test_nothing_is_read_of_another_file(store: FolderStore, patients: pd.DataFrame) -> None:
    write_rows(store, "a.parquet", patients)
    batches = read_batches(store, "a.parquet", "0" * 64)
    with pytest.raises(DamagedRowsError):
        next(batches)


def test_a_version_is_of_the_content_and_of_the_hospital(
    tmp_path: Path, patients: pd.DataFrame
) -> None:
    """By a published construction, so that others can check it; and nobody without the key."""
    table = table_of(patients)
    stores = [FolderStore(tmp_path / name) for name in "ab"]
    versions, hashes = [], []
    for store in stores:
        with RowWriter(store, table.schema) as writer:
            writer.write(table)
            content = writer.finish()
            versions.append(keyed_version(store, content))
            hashes.append(writer.store("a.parquet"))
        expected = hmac.new(site_key(store), content, "sha256").hexdigest()
        assert versions[-1] == expected[:16]
    assert versions[0] != versions[1]
    assert hashes[0] != hashes[1]
    peppers = [
        parquet.read_metadata(tmp_path / name / "a.parquet").metadata[b"fl_assets.pepper"]
        for name in "ab"
    ]
    # Without the key two files of a hospital have nothing in common that would help to guess.
    write_rows(stores[0], "b.parquet", patients.iloc[1:])
    peppers.append(parquet.read_metadata(tmp_path / "a/b.parquet").metadata[b"fl_assets.pepper"])
    assert len(set(peppers)) == 3


def test_the_site_key_is_made_once(store: FolderStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: site_key(store), range(8)))
    assert len(found) == 1
    assert len(found.pop()) == 32
    assert len(store.versions("keys/site.key")) == 1


def test_another_file_than_the_manifest_names(store: FolderStore, patients: pd.DataFrame) -> None:
    sha256 = write_rows(store, "a.parquet", patients)
    write_rows(store, "a.parquet", patients.iloc[1:])
    with pytest.raises(DamagedRowsError, match=r"'a\.parquet' in file://.* materialise"):
        read_rows(store, "a.parquet", sha256)


@pytest.mark.parametrize("cut", [0, 3, 200, -4, -200])
def test_a_damaged_file(cut: int, store: FolderStore, patients: pd.DataFrame) -> None:
    write_rows(store, "a.parquet", patients)
    store.put("a.parquet", store.get("a.parquet")[:cut])
    with pytest.raises(DamagedRowsError) as caught:
        read_rows(store, "a.parquet")
    assert caught.value.__suppress_context__


def test_content_hash_knows_every_cell_and_the_order(patients: pd.DataFrame) -> None:
    frame = patients.iloc[:50].reset_index(drop=True)
    found = {content_hash(frame)}
    for column in frame:
        other = frame.copy()
        other.loc[[3, 4], column] = frame.loc[[4, 3], column].to_numpy()
        if not other.equals(frame):
            found.add(content_hash(other))
    found |= {content_hash(frame.iloc[::-1]), content_hash(frame.iloc[:49])}
    found |= {content_hash(frame.rename(columns={"age": "years"}))}
    found |= {content_hash(frame.astype({"age": "float32"}))}
    assert len(found) >= 10
    assert len({len(each) for each in found}) == 1
    assert content_hash(frame.set_index(frame.index + 7)) == content_hash(frame)


def test_content_hash_does_not_depend_on_the_file(
    store: FolderStore, patients: pd.DataFrame, tmp_path: Path
) -> None:
    patients.to_parquet(tmp_path / "other.parquet", compression="gzip", row_group_size=100)
    store.put("other.parquet", (tmp_path / "other.parquet").read_bytes())
    assert content_hash(read_rows(store, "other.parquet")) == content_hash(patients)
    assert parquet.ParquetFile(tmp_path / "other.parquet").num_row_groups == 20


PARQUET = {"read_parquet", "to_parquet", "ParquetFile", "ParquetWriter", "read_table", "parquet"}
OPENING = {
    "site/rows.py",  # records, partitions, quarantine
    "cohorts/parquet.py",  # an upload that is Parquet
    "site/rewriting.py",  # the same without a patient
    "site/whereabouts.py",  # a patient in every stored version
}


def mentions(tree: ast.AST) -> Iterator[str]:
    """Every name of something that can open Parquet."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                parts = [part for name in names for part in name.name.split(".")]
            case ast.ImportFrom(module=module, names=names):
                own = (module or "").startswith("fl_assets.")
                parts = [] if own else [*(module or "").split("."), *(n.name for n in names)]
            case ast.Attribute(attr=name) | ast.Name(id=name):
                parts = [name]
            case _:
                continue
        yield from PARQUET.intersection(parts)


def modules() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())


def test_parquet_is_opened_in_few_modules_only() -> None:
    assert {name for name, tree in modules() if set(mentions(tree))} <= OPENING


@pytest.mark.parametrize(
    "code",
    [
        "import pandas as pd\npd.read_parquet('x')",
        "from pandas import read_parquet",
        "import pyarrow.parquet as pq",
        "from pyarrow import parquet as p",
        "from pyarrow.parquet import ParquetFile",
        "def f():\n    import pyarrow\n    return pyarrow.parquet.read_table('x')",
        "pandas.DataFrame().to_parquet('x')",
    ],
)
def test_every_way_to_open_parquet_is_found(code: str) -> None:
    assert list(mentions(ast.parse(code)))


def test_rows_are_used_at_the_site_and_by_the_simulation_alone() -> None:
    users = set()
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "fl_assets.site.rows" or "fl_assets.site.rows" in full:
                    users.add(name)
    assert {user for user in users if not user.startswith("site/")} == {"defs/ingest.py"}

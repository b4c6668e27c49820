import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from pyarrow import parquet

from fl_assets.site.rows import DamagedRowsError, content_hash, read_rows, write_rows
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


PARQUET = {"read_parquet", "to_parquet", "ParquetFile", "read_table", "parquet", "pyarrow"}


def mentions(tree: ast.AST) -> Iterator[str]:
    """Every name of something that can open Parquet."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                parts = [part for name in names for part in name.name.split(".")]
            case ast.ImportFrom(module=module, names=names):
                parts = [*(module or "").split("."), *(name.name for name in names)]
            case ast.Attribute(attr=name) | ast.Name(id=name):
                parts = [name]
            case _:
                continue
        yield from PARQUET.intersection(parts)


def modules() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())


def test_rows_are_opened_in_one_module_only() -> None:
    found = {name: set(mentions(tree)) for name, tree in modules()}
    assert found.pop("site/rows.py") >= {"pyarrow", "parquet", "read_table"}
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pandas as pd\npd.read_parquet('x')",
        "from pandas import read_parquet",
        "import pyarrow.parquet as pq",
        "from pyarrow import parquet as p",
        "from pyarrow.parquet import ParquetFile",
        "def f():\n    import pyarrow\n    return pyarrow.parquet.read_table('x')",
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

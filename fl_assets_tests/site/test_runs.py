from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from fl_assets.site.runs import SortedRuns, merged

KEYS = st.text(alphabet="ab\u00e9\U0001f600", max_size=3)


def table(keys: list[str]) -> pa.Table:
    return pa.table({"key": pa.array(keys, pa.string())})


@given(batches=st.lists(st.lists(KEYS, max_size=9), max_size=9), run=st.integers(1, 30))
def test_rows_come_back_sorted_and_equal_keys_in_their_order(
    batches: list[list[str]], run: int
) -> None:
    with SortedRuns("key", run=run) as runs:
        place = 0
        for keys in batches:
            rows = table(keys).append_column(
                "place", pa.array(range(place, place + len(keys)), pa.int64())
            )
            place += len(keys)
            runs.add(rows)
        found = [list(zip(*t.to_pydict().values(), strict=True)) for t in runs.merge()]
    flat = [row for rows in found for row in rows]
    given_rows = enumerate(key for keys in batches for key in keys)
    # Python compares texts by code points, too.
    assert flat == sorted(((key, place) for place, key in given_rows), key=lambda row: row[0])
    for before, after in itertools.pairwise(found):
        assert before[-1][0] < after[0][0]


def test_a_run_is_reduced_before_it_is_kept() -> None:
    seen = []

    def first_of_all(rows: pa.Table) -> pa.Table:
        seen.append(rows["key"].to_pylist())
        return rows.slice(0, 1)

    with SortedRuns("key", first_of_all, run=3) as runs:
        for keys in (["c"], ["b", "a"], ["e", "d"]):
            runs.add(table(keys))
        found = [key for t in runs.merge() for key in t["key"].to_pylist()]
    assert seen == [["a", "b", "c"], ["d", "e"]]
    assert found == ["a", "d"]


def test_dictionary_columns_survive_a_disk() -> None:
    words = pa.array(["no", "yes"])
    with SortedRuns("key", run=2) as runs:
        for codes in ([1, None], [0, 1], [None, None]):
            column = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), words)
            runs.add(table(["b", "a"]).append_column("word", column))
        found = pa.concat_tables(runs.merge())
    assert found["word"].to_pylist() == [None, "yes", None, "yes", "no", None]


def test_what_does_not_fit_into_a_run_is_not_in_memory() -> None:
    def letters() -> Iterator[pa.Table]:
        draw = np.random.default_rng(1)
        for _ in range(40):
            yield table(draw.integers(0, 10**12, 5_000).astype(str).tolist())

    before = pa.total_allocated_bytes()
    with SortedRuns("key", run=10_000) as runs:
        for rows in letters():
            runs.add(rows)
        del rows
        # Of 3 MB.
        assert pa.total_allocated_bytes() - before < 500_000
        assert sum(len(rows) for rows in runs.merge()) == 200_000


def test_the_ranges_of_a_merge_hold_whole_keys() -> None:
    draw = random.Random(3)
    runs = []
    for _ in range(4):
        keys = sorted(draw.choice("abcdef") for _ in range(20))
        cuts = sorted(draw.randrange(21) for _ in range(3))
        runs.append([keys[a:b] for a, b in zip([0, *cuts], [*cuts, 20], strict=True)])
    ranges = [
        {key for piece in pieces for key in piece["key"].to_pylist()}
        for pieces in merged([iter(map(table, run)) for run in runs], "key")
    ]
    assert sorted(key for found in ranges for key in found) == list("abcdef")


def test_nothing_is_nothing() -> None:
    with SortedRuns("key") as runs:
        runs.add(table([]))
        assert list(runs.merge()) == []

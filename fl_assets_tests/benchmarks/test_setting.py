import numpy as np
import pytest

from benchmarks import setting
from benchmarks.setting import deal_folds, load_setting, write_sites
from fl_assets.cohorts.source import SYNTHETIC
from fl_assets.site.partitions import PARTS, load_manifest, load_part


@pytest.fixture(scope="module")
def small(small_csv):
    return load_setting(str(small_csv))


def test_every_row_is_tested_once_and_the_strata_are_alike(small):
    folds = list(deal_folds(small, 3, seed=0))
    tested = np.sum([parts == "test" for parts in folds], axis=0)
    np.testing.assert_array_equal(tested, 1)
    for stratum in np.unique(small.strata):
        rows = small.strata == stratum
        for parts in folds:
            assert abs((parts[rows] == "test").sum() - rows.sum() / 3) <= 1
            left = (parts[rows] != "test").sum()
            assert abs((parts[rows] == "validation").sum() - left / 8) <= 1


def test_the_seed_decides_the_folds(small):
    first, again, other = (next(deal_folds(small, 3, seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_sites_hold_each_row_once_where_it_was_dealt(small, tmp_path):
    parts = next(deal_folds(small, 3, seed=0))
    stores = write_sites(small, parts, tmp_path)
    for name, store in stores.items():
        for part in PARTS:
            wanted = (small.hospital == name) & (parts == part)
            found = load_part(store, load_manifest(store), part)
            assert found["id"].tolist() == small.rows["id"][wanted].tolist()


def test_without_a_file_the_rows_are_synthetic_and_say_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("FLA_STROKE_CSV", str(tmp_path / "absent.csv"))
    found = load_setting(None)
    assert SYNTHETIC in found.origin
    assert "synthetic rows" in capsys.readouterr().err
    assert len(found.rows) == setting.SYNTHETIC_ROWS


def test_the_environment_names_the_file(monkeypatch, small_csv):
    monkeypatch.setenv("FLA_STROKE_CSV", str(small_csv))
    found = load_setting(None)
    assert found.origin == str(small_csv)
    assert len(found.rows) == 1500

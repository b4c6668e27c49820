"""No value of a patient leaves a hospital's store by any way that is not meant for it."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from fl_assets import pipeline
from fl_assets.cohorts.spec import load_cohort
from fl_assets.settings import Settings
from fl_assets_tests import canaries
from fl_assets_tests.cli.fla import Fla
from fl_assets_tests.world import CONSORTIUM, RECIPES, dagster_instance, settings_of

HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")
ROWS = 260


@pytest.fixture
def consortium(tmp_path: Path) -> Settings:
    """A real consortium of three hospitals, none of which has uploaded anything."""
    home = tmp_path / "home"
    (home / "recipes").mkdir(parents=True)
    for name, recipe in RECIPES.items():
        (home / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    gates = {"min_auroc": 0.0, "min_gain_over_age_only": -1.0, "max_ece": 1.0}
    changes = {
        "simulated": False,
        "hospitals": [{"name": name} for name in HOSPITALS],
        "privacy_budget": {"unprotected_runs": True},
        "promotion": gates,
        "routine": ["small-lr"],
    }
    (home / "consortium.yaml").write_text(yaml.safe_dump(CONSORTIUM | changes))
    return settings_of(home)


def test_no_canary_of_any_column_is_found_outside_the_hospitals_stores(
    consortium: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.DEBUG)
    # It tells of every font of the machine.
    logging.getLogger("matplotlib").setLevel(logging.INFO)
    spec = consortium.cohort
    said: list[str] = []
    files = tmp_path / "files"
    files.mkdir()
    fla = Fla(monkeypatch, capsys).over(consortium)

    def run(*arguments: str) -> int:
        result = fla(*arguments)
        said.extend((result.out, result.err))
        return result.code

    plants = [canaries.planted(spec, ROWS, seed, name) for seed, name in enumerate(HOSPITALS)]
    for data, hospital in zip(plants, HOSPITALS, strict=True):
        file = files / f"{hospital}.csv"
        file.write_bytes(data)
        assert run("validate", str(file)) == 1
        assert run("upload", hospital, str(file), "--yes") == 0, said[-2:]
    for name, data in canaries.refused(spec).items():
        (files / name).write_bytes(data)
        assert run("validate", str(files / name)) == 1
        consortium.site_store("hospital-a").put(f"incoming/{name}", data)
    with dagster_instance(consortium.home) as instance:
        outcomes = list(pipeline.run(consortium, instance))
        for hospital in HOSPITALS:
            # One row in ten does not fit; this one blocks.
            bad = canaries.planted(spec, 4, 9, "blocked")
            consortium.site_store(hospital).put("incoming/blocked.csv", bad)
        with pytest.raises(pipeline.StepFailedError):
            list(pipeline.run(consortium, instance))
    assert all(outcome.failure is None for outcome in outcomes)
    for hospital in HOSPITALS:
        assert run("quarantine", hospital) in (0, 1)
        assert run("egress", hospital) == 0
        consortium.site_store(hospital).delete("incoming/blocked.csv")
    assert run("erase", "hospital-a", f"{canaries.MARK}-hospital-a-3", "--yes") == 0, said[-2:]
    assert run("erase", "hospital-a", f"{canaries.MARK}-nobody", "--yes") == 1
    assert run("status") == 0
    assert run("withdraw", "hospital-c", "--yes") == 0, said[-2:]

    searched = canaries.Needles(spec, plants)
    told = "".join(said) + caplog.text + "".join(capsys.readouterr())
    assert searched.within(told.encode()) == []
    sites = consortium.home / "sites"
    assert canaries.leaks(consortium.home, searched, without=sites) == {}
    for hospital in HOSPITALS:
        assert canaries.leaks_to_coordinator(sites / hospital, searched) == {}
    # The search finds what is there to be found.
    inside = canaries.leaks(sites / "hospital-a", searched, without=consortium.home / "coordinator")
    assert any("/incoming/" in path for path in inside)


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", ">f4"])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_search_finds_numbers_that_no_text_shows(
    dtype: str, scaled: bool, tmp_path: Path
) -> None:
    spec = load_cohort("stroke", Path())
    file = canaries.planted(spec, 20, 1, "one")
    searched = canaries.Needles(spec, [file])
    (age,) = [column for column in spec.numbers if column.name == "age"]
    values = pd.read_csv(io.BytesIO(file), nrows=20)["age"].to_numpy()
    if scaled:
        values = (values - age.public.center) / age.public.scale
    # At no address that a number would have of itself.
    raw = np.frombuffer(b"1" + values.astype(dtype).tobytes(), np.uint8)
    np.savez_compressed(tmp_path / "rows.npz", raw)
    np.savez_compressed(tmp_path / "others.npz", np.linspace(0, 1, 10_000, dtype=dtype))

    found = canaries.leaks(tmp_path, searched, without=tmp_path / "none")

    assert list(found) == [str(tmp_path / "rows.npz")]

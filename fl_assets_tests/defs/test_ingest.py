"""The split of one data set is made once for all hospitals that ask for it."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
import yaml

from fl_assets.cohorts.synthetic import generate
from fl_assets.defs import ingest
from fl_assets.settings import Settings
from fl_assets.site import rows


@pytest.fixture
def settings(world: Settings) -> Settings:
    put_validated(world, seed=3)
    return world


def put_validated(settings: Settings, seed: int) -> pd.DataFrame:
    frame = generate(settings.cohort, 300, seed).astype({"stroke": int})
    frame[[c.name for c in settings.cohort.numbers]] = frame[
        [c.name for c in settings.cohort.numbers]
    ].apply(pd.to_numeric, errors="coerce")
    rows.write_rows(settings.coordinator_store(), ingest.VALIDATED, frame)
    return frame


def test_hospitals_share_one_split_until_rows_or_consortium_change(settings: Settings) -> None:
    first = ingest._dealt(settings)
    # Every run makes its settings anew.
    assert ingest._dealt(dataclasses.replace(settings)) is first

    config = yaml.safe_load(settings.consortium_file.read_text())
    config["simulation"]["seed"] += 1
    settings.consortium_file.write_text(yaml.safe_dump(config))
    _, second, _ = ingest._dealt(dataclasses.replace(settings))
    assert (second.assignment != first[1].assignment).any()

    put_validated(settings, seed=4)
    frame, third, _ = ingest._dealt(dataclasses.replace(settings))
    assert frame["id"].tolist() != first[0]["id"].tolist()
    assert third.report != second.report

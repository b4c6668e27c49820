"""A small simulated consortium on disk: what the tests above the site level start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from fl_assets.cohorts.contract import check_rows
from fl_assets.cohorts.reader import read_rows
from fl_assets.cohorts.split import deal
from fl_assets.cohorts.synthetic import generate
from fl_assets.coordinator.simulation import upload
from fl_assets.pipeline import write_dagster_yaml
from fl_assets.settings import Settings
from fl_assets.site.intake import collect_records
from fl_assets.site.partitions import build_partitions
from fl_assets.site.profile import build_profile, noised_profile

CONSORTIUM = {
    "name": "test-consortium",
    "cohort": "stroke",
    "simulated": True,
    "split": {"salt": "test-consortium-1"},
    "hospitals": [
        {"name": "hospital-a", "share": 2},
        {"name": "hospital-b", "share": 1},
        {"name": "hospital-c", "share": 2},
    ],
    "simulation": {"split": "demographic", "seed": 7},
    "promotion": {"min_auroc": 0.5, "min_gain_over_age_only": -0.5, "max_ece": 0.5},
}
RECIPES = {
    "small-lr": {
        "model": {"kind": "logistic_regression"},
        "optimizer": {"kind": "sgd", "lr": 0.03, "momentum": 0.9},
        "rounds": 3,
    },
    "small-mlp": {
        "model": {"kind": "mlp", "hidden": [4]},
        "optimizer": {"kind": "adam", "lr": 0.001},
        "strategy": {"kind": "fedprox", "mu": 0.1},
        "rounds": 2,
    },
}
SWEEP = {
    "recipe": "small-lr",
    "space": {
        "optimizer.lr": {"low": 0.001, "high": 0.1, "log": True},
        "local_epochs": {"low": 1, "high": 2},
        "loss": {"choices": [{"kind": "bce"}, {"kind": "focal"}]},
    },
    "trials": 3,
}


def settings_of(home: Path) -> Settings:
    """Settings whose every path is in ``home``, whatever the environment says."""
    return Settings(
        home=home,
        consortium_file=home / "consortium.yaml",
        recipes=home / "recipes",
        tracking_uri=f"sqlite:///{home}/mlflow.db",
        coordinator_uri=(home / "coordinator").as_uri(),
    )


def build_world(home: Path, rows: int = 600, seed: int = 1, **changes: Any) -> Settings:
    """Write a consortium of three hospitals with records, partitions and profiles into ``home``.

    Args:
        home: an empty folder.
        rows: synthetic patients over all hospitals.
        seed: of the synthetic patients.
        changes: to the consortium's file.
    """
    (home / "recipes").mkdir()
    (home / "consortium.yaml").write_text(yaml.safe_dump(CONSORTIUM | changes))
    for name, recipe in RECIPES.items():
        (home / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    (home / "recipes" / "sweeps").mkdir()
    (home / "recipes" / "sweeps" / "small.yaml").write_text(yaml.safe_dump(SWEEP))
    settings = settings_of(home)
    consortium, cohort = settings.consortium, settings.cohort
    text = generate(cohort, rows, seed).to_csv(index=False)
    patients = check_rows(read_rows(text.encode(), cohort, "patients.csv"), cohort).accepted
    dealt = deal(patients, cohort, consortium)
    for index, hospital in enumerate(dealt.hospitals):
        store = settings.site_store(hospital)
        upload(store, patients[dealt.assignment == index], cohort)
        collect_records(store, cohort)
        build_partitions(store, cohort, consortium.split)
        noised = noised_profile(consortium, hospital)
        build_profile(store, cohort, consortium.minimum_cell, "world", noised)
    return settings


def set_gates(settings: Settings, **gates: float) -> None:
    """Rewrite the promotion gates of a world's consortium file."""
    config = yaml.safe_load(settings.consortium_file.read_text())
    settings.consortium_file.write_text(yaml.safe_dump(config | {"promotion": gates}))


def dagster_instance(home: Path) -> dg.DagsterInstance:
    """The Dagster instance whose storage is in a world's folder."""
    folder = home / "dagster"
    write_dagster_yaml(folder)
    return dg.DagsterInstance.from_config(str(folder))

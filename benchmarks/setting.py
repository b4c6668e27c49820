"""What both benchmarks share: a data set dealt to hospitals, cut into folds, in real stores."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from sklearn.model_selection import StratifiedKFold, train_test_split

from fl_assets.cohorts.contract import check_rows
from fl_assets.cohorts.reader import read_rows
from fl_assets.cohorts.source import SYNTHETIC, fetch
from fl_assets.cohorts.spec import CohortSpec, load_cohort
from fl_assets.cohorts.split import deal
from fl_assets.config import load_yaml_model
from fl_assets.consortium import Consortium, PrivacyBudget
from fl_assets.errors import FlAssetsError
from fl_assets.federation.recipe import Recipe, load_recipe, recipe_names
from fl_assets.site.partitions import write_partitions
from fl_assets.storage import SiteStore, open_store

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPES = REPOSITORY / "recipes"
STROKE_CSV = REPOSITORY.parent / "shared/data/stroke/healthcare-dataset-stroke-data.csv"
SYNTHETIC_ROWS = 5110
VALIDATION_SHARE = 1 / 8
"""Of the rows that are not tested."""

WIDTH = 150
"""Characters of the widest table."""

Parts = NDArray[np.str_]

DataOption = Annotated[
    str | None,
    typer.Option(
        help="The stroke CSV, or `synthetic`. Without it FLA_STROKE_CSV, then the shared copy, "
        "then synthetic rows."
    ),
]


@dataclass(frozen=True)
class Setting:
    """A data set in a consortium.

    Attributes:
        consortium: with its split.
        spec: the cohort.
        rows: that fit the contract, n of them.
        hospital: name of each row's hospital, [n].
        origin: of the rows, for people.
    """

    consortium: Consortium
    spec: CohortSpec
    rows: pd.DataFrame
    hospital: Parts
    origin: str

    @property
    def strata(self) -> Parts:
        """Hospital and label of each row, [n]."""
        return self.hospital + self.rows[self.spec.label.column].to_numpy().astype(np.str_)


def load_setting(data: str | None) -> Setting:
    """Load a data set and deal it as the repository's consortium.yaml says.

    Args:
        data: as of ``--data``.

    Raises:
        FlAssetsError: the file or the consortium does not fit.
    """
    consortium = load_yaml_model(REPOSITORY / "consortium.yaml", Consortium)
    spec = load_cohort(consortium.cohort, REPOSITORY)
    raw = fetch(data or _default_data(), spec, SYNTHETIC_ROWS, seed=0)
    rows = check_rows(read_rows(raw.data, spec, raw.name), spec).accepted
    dealt = deal(rows, spec, consortium)
    hospital = np.array(dealt.hospitals)[dealt.assignment]
    return Setting(consortium, spec, rows, hospital, raw.origin)


def _default_data() -> str:
    path = Path(os.environ.get("FLA_STROKE_CSV", STROKE_CSV))
    if path.is_file():
        return str(path)
    typer.echo(
        "The public stroke file is absent (set FLA_STROKE_CSV): these are synthetic rows, and the "
        "bars were set on the public ones.",
        err=True,
    )
    return SYNTHETIC


def deal_folds(setting: Setting, folds: int, seed: int) -> Iterator[Parts]:
    """Yield the part of every row, [n], once per fold, stratified by hospital and label.

    The fold is the test part; of the rest one eighth is validation.
    """
    parts = np.full(len(setting.rows), "train", dtype="<U10")
    everyone = np.arange(len(parts))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for rest, test in splitter.split(everyone, setting.strata):
        _, validation = train_test_split(
            rest,
            test_size=VALIDATION_SHARE,
            random_state=seed,
            stratify=setting.strata[rest],
        )
        found = parts.copy()
        found[test], found[validation] = "test", "validation"
        yield found


def write_sites(setting: Setting, parts: Parts, home: Path) -> dict[str, SiteStore]:
    """Write every hospital's partitions to a store of its own under ``home``."""
    stores = {}
    for name in setting.consortium.hospital_names:
        own = setting.hospital == name
        stores[name] = open_store((home / name).as_uri())
        write_partitions(stores[name], setting.rows[own], parts[own], setting.spec, "benchmark")
    return stores


def unlimited(hospitals: Iterable[str]) -> dict[str, PrivacyBudget]:
    """Return budgets that let every training through, however often it is repeated."""
    return dict.fromkeys(hospitals, PrivacyBudget(epsilon=1e6, unprotected_runs=True))


def load_recipes(folder: Path) -> dict[str, Recipe]:
    """Load every recipe of a folder, by name."""
    return {name: load_recipe(folder / f"{name}.yaml") for name in recipe_names(folder)}


def run(app: typer.Typer) -> None:
    """Run a benchmark's command line; our own errors end it with their message."""
    try:
        app()
    except FlAssetsError as error:
        sys.exit(f"error: {error}")


def console() -> Console:
    """Return where tables go; wide enough for them, so that nothing is cut off."""
    return Console(highlight=False, width=max(Console().width, WIDTH))


def table(title: str, columns: Sequence[str], text_columns: int = 1) -> Table:
    """Return an empty table; the first columns hold text, the others figures."""
    found = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for index, column in enumerate(columns):
        found.add_column(column, justify="left" if index < text_columns else "right", no_wrap=True)
    return found

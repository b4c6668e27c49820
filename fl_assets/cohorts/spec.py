"""``CohortSpec``: everything the system knows about a tabular disease data set, from one YAML."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from fl_assets.cohorts.columns import (
    BinaryValue,
    CategoryColumn,
    Column,
    FlagColumn,
    Label,
    NumberColumn,
    PublicScale,
    added,
)
from fl_assets.cohorts.derived import Bins, Derived, MissingIndicator, Product, Ratio
from fl_assets.cohorts.spellings import Coding, Spelling, check_apart, plain
from fl_assets.cohorts.synthetic_check import check_recipe
from fl_assets.cohorts.synthetic_spec import SyntheticRecipe
from fl_assets.config import ConfigFileError, StrictModel, parse_yaml_model, read_config

__all__ = [
    "ROW_ID",
    "Bins",
    "CategoryColumn",
    "CohortSpec",
    "FlagColumn",
    "Label",
    "MissingIndicator",
    "NumberColumn",
    "Product",
    "PublicScale",
    "Ratio",
    "load_cohort",
]

ROW_ID = "row_id"
"""Name of the key of rows in a cohort without ids."""


class KaggleSource(StrictModel):
    """Where the cohort's public data set is on Kaggle."""

    handle: str
    file: str


class CohortSpec(StrictModel):
    """What a tabular disease data set is.

    Attributes:
        name: short, used in paths.
        title: for people.
        id_column: identifies a patient within a hospital. None where files have no such column:
            a row is then known by all it holds, and can be corrected only by sending its file anew.
        label: the outcome.
        header: whether the first line of a file names its columns.
        file_order: every column in the order of the files, where no header tells it; by default
            id, columns, label.
        missing_markers: spellings of a missing value, the empty field among them; the first is
            used for writing.
        columns: every other column, in the order of the features.
        groups: feature group of each column, for fusion models and plots.
        derived: features computed from columns.
        age_column: the column behind the ``age only`` baseline.
        risk_flags: flags that, with age, tell high-risk from low-risk patients when a data set is
            dealt to simulated hospitals.
        subgroups: columns by which evaluations are broken down.
        kaggle: data set handle and file on Kaggle, if it is there.
        synthetic: the generator's recipe, see :mod:`fl_assets.cohorts.synthetic`.
    """

    name: str
    title: str
    id_column: str | None
    label: Label
    header: bool = added(True)
    file_order: tuple[str, ...] = added(())
    missing_markers: Annotated[tuple[Spelling, ...], Field(min_length=1)] = ("",)
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    groups: dict[str, tuple[str, ...]]
    derived: tuple[Derived, ...] = ()
    age_column: str
    risk_flags: tuple[str, ...] = ()
    subgroups: tuple[str, ...] = ()
    kaggle: KaggleSource | None = None
    synthetic: SyntheticRecipe | None = None

    @model_validator(mode="after")
    def _columns_fit(self) -> CohortSpec:
        names = self.file_columns
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"columns named more than once: {', '.join(twice)}")
        # The reader and the contract put their own columns beside the file's.
        reserved = [name for name in names if name.startswith("_")]
        if reserved:
            raise ValueError(f"columns must not start with an underscore: {', '.join(reserved)}")
        if self.id_column is None and ROW_ID in names:
            raise ValueError(
                f"{ROW_ID} is what rows are called where id_column is null: rename the column, or "
                f"say id_column: {ROW_ID}"
            )
        grouped = [name for group in self.groups.values() for name in group]
        if sorted(grouped) != sorted(self.column_names):
            odd = sorted(set(grouped) ^ set(self.column_names)) or ["a column in two groups"]
            raise ValueError(f"groups must hold each column once; see {', '.join(odd)}")
        return self

    @model_validator(mode="after")
    def _order_fits(self) -> CohortSpec:
        if not self.file_order:
            return self
        if self.header:
            raise ValueError("file_order is for files without a header: say header: false as well")
        if sorted(self.file_order) != sorted(self.file_columns):
            odd = sorted(set(self.file_order) ^ set(self.file_columns)) or ["a column named twice"]
            raise ValueError(f"file_order must hold each column once; see {', '.join(odd)}")
        return self

    @model_validator(mode="after")
    def _markers_are_no_values(self) -> CohortSpec:
        for column in self.columns:
            if not isinstance(column, NumberColumn):
                missing = (*self.missing_markers, *column.missing_markers)
                check_apart(column.name, {**column.spellings, "a missing value": missing})
        check_apart(
            self.label.column, {**self.label.spellings, "a missing value": self.missing_markers}
        )
        return self

    @model_validator(mode="after")
    def _roles_fit(self) -> CohortSpec:
        kinds = {column.name: column.kind for column in self.columns}
        for role, names, allowed in (
            ("age_column", (self.age_column,), {"number"}),
            ("risk_flags", self.risk_flags, {"flag"}),
            ("subgroups", self.subgroups, {"category", "flag"}),
        ):
            strange = sorted(name for name in names if kinds.get(name) not in allowed)
            if strange:
                raise ValueError(
                    f"{role}: {', '.join(strange)} not among the {' and '.join(sorted(allowed))} "
                    "columns"
                )
        return self

    @model_validator(mode="after")
    def _derived_fit(self) -> CohortSpec:
        numeric = {c.name for c in self.columns if not isinstance(c, CategoryColumn)}
        coded = {
            f"{c.name}={category}"
            for c in self.columns
            if isinstance(c, CategoryColumn)
            for category in c.coded
        }
        features = numeric | coded
        sources = {
            "missing": set(self.column_names),
            "bins": numeric,
            "ratio": numeric,
            "product": features,
        }
        taken = features | set(self.file_columns)
        for derived in self.derived:
            if derived.name in taken:
                raise ValueError(f"derived {derived.name}: the name is taken")
            of = (derived.of,) if isinstance(derived.of, str) else derived.of
            strange = sorted(set(of) - sources[derived.kind])
            if strange:
                raise ValueError(f"derived {derived.name} cannot use {', '.join(strange)}")
            taken.add(derived.name)
            if not isinstance(derived, Bins):
                features.add(derived.name)
        return self

    @model_validator(mode="after")
    def _recipe_fits(self) -> CohortSpec:
        if self.synthetic is not None:
            check_recipe(self.synthetic, self)
        return self

    @property
    def column_names(self) -> list[str]:
        """The feature columns, in the file's order."""
        return [column.name for column in self.columns]

    @property
    def key_column(self) -> str:
        """What the rows of a frame are known by: the id, or ``row_id`` where there is none."""
        return ROW_ID if self.id_column is None else self.id_column

    @property
    def frame_columns(self) -> list[str]:
        """The columns of checked rows: key, features, label."""
        return [self.key_column, *self.column_names, self.label.column]

    @property
    def file_columns(self) -> list[str]:
        """Every column of a data file: id if there is one, features, label."""
        return self.frame_columns[1:] if self.id_column is None else self.frame_columns

    @property
    def numbers(self) -> list[NumberColumn]:
        """The number columns, in the file's order."""
        return [column for column in self.columns if isinstance(column, NumberColumn)]

    @property
    def version(self) -> str:
        """Content hash of what rows must be, 12 hex digits: the contract version."""
        return hashlib.sha256(self.contract.model_dump_json().encode()).hexdigest()[:12]

    @property
    def contract(self) -> CohortSpec:
        """The spec without where rows may be had from: what a site or a model needs."""
        return self.model_copy(update={"synthetic": None, "kaggle": None})

    def coding(self, name: str) -> Coding:
        """Return how a column of ``frame_columns`` is spelt in files.

        A coded flag or label is ``1`` or ``0`` in canonical text, a category its name; one that
        is not coded may be any number, and the contract judges it.
        """
        column = next((c for c in self.columns if c.name == name), None)
        markers = self.missing_markers + (column.missing_markers if column else ())
        codes: dict[str, str] = {}
        if isinstance(column, CategoryColumn):
            codes = {plain(text): c for c, texts in column.spellings.items() for text in texts}
        value = self.label if name == self.label.column else column
        if isinstance(value, BinaryValue) and value.coded:
            codes = {plain(text): "1" for text in value.positive}
            codes |= {plain(text): "0" for text in value.negative}
        return Coding(frozenset(map(plain, markers)), codes)

    def canonical(self, name: str, text: str) -> str | None:
        """Return what a field means, see :meth:`Coding.canonical`; slow, for single values."""
        return self.coding(name).canonical(text)

    def column(self, name: str) -> NumberColumn | CategoryColumn | FlagColumn:
        """Return the column of that name; ``KeyError`` where there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


def load_cohort(cohort: str, base: Path | None = None) -> CohortSpec:
    """Load a shipped cohort by name, or a YAML by its path relative to ``base``.

    Raises:
        ConfigFileError: no such cohort or file, or it does not fit.
    """
    if not cohort.endswith((".yaml", ".yml")):
        shipped = resources.files("fl_assets.cohorts")
        file = shipped / f"{cohort}.yaml"
        if not file.is_file():
            names = sorted(
                p.name.removesuffix(".yaml") for p in shipped.iterdir() if p.name.endswith(".yaml")
            )
            raise ConfigFileError(
                f"no shipped cohort is named {cohort!r}: use one of {', '.join(names)} or the path "
                "of a cohort YAML"
            )
        return parse_yaml_model(file.read_text("utf-8"), CohortSpec, f"cohort {cohort}")
    path = (base or Path()) / cohort
    return parse_yaml_model(read_config(path), CohortSpec, str(path))

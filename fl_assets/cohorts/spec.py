"""``CohortSpec``: everything the system knows about a tabular disease data set, from one YAML."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fl_assets.cohorts.synthetic_check import check_recipe
from fl_assets.cohorts.synthetic_spec import SyntheticRecipe
from fl_assets.config import ConfigFileError, StrictModel, parse_yaml_model, read_config


class PublicScale(StrictModel):
    """Data-independent scaling of a number: ``(clip(x, low, high) - center) / scale``.

    The constants are clinical common knowledge, so using them releases nothing about patients.

    Attributes:
        low, high: clip bounds in the column's unit.
        center, scale: in the column's unit.
        fill: stands in for a missing value.
    """

    low: float
    high: float
    center: float
    scale: Annotated[float, Field(gt=0)]
    fill: float | None = None

    @model_validator(mode="after")
    def _bounds_in_order(self) -> PublicScale:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        return self


class NumberColumn(StrictModel):
    """A measured number.

    Attributes:
        name: as in the file's header.
        range: smallest and largest believable value, both allowed, in ``unit``.
        unit: for people.
        nullable: whether a missing value is accepted.
        public: data-independent scaling.
        bins: public edges of the released histogram, ascending.
    """

    kind: Literal["number"]
    name: str
    range: tuple[float, float]
    unit: str = ""
    nullable: bool = False
    public: PublicScale
    bins: Annotated[tuple[float, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _consistent(self) -> NumberColumn:
        if self.range[0] >= self.range[1]:
            raise ValueError(f"range {list(self.range)} must ascend")
        if list(self.bins) != sorted(set(self.bins)):
            raise ValueError("bins must ascend")
        if self.nullable and self.public.fill is None:
            raise ValueError("a nullable column needs public.fill")
        return self


class CategoryColumn(StrictModel):
    """A value out of a closed list.

    Attributes:
        categories: every allowed spelling.
        reference: the category that the one-hot coding leaves out.
        ignored: categories too rare to have a feature of their own; coded like the reference.
    """

    kind: Literal["category"]
    name: str
    categories: Annotated[tuple[str, ...], Field(min_length=2)]
    reference: str
    ignored: tuple[str, ...] = ()
    nullable: bool = False

    @model_validator(mode="after")
    def _reference_is_known(self) -> CategoryColumn:
        strange = {self.reference, *self.ignored} - set(self.categories)
        if strange:
            raise ValueError(f"{', '.join(sorted(strange))} not among the categories")
        return self

    @property
    def coded(self) -> tuple[str, ...]:
        """Categories that get a feature, in the order of the list."""
        left_out = {self.reference, *self.ignored}
        return tuple(c for c in self.categories if c not in left_out)


class FlagColumn(StrictModel):
    """A yes/no value stored as 1 and 0."""

    kind: Literal["flag"]
    name: str
    nullable: bool = False


Column = Annotated[NumberColumn | CategoryColumn | FlagColumn, Field(discriminator="kind")]


class Label(StrictModel):
    """The outcome to predict, stored as 1 and 0.

    Attributes:
        column: its name in the file.
        prevalence: publicly known rate, the default start of a model's bias.
    """

    column: str
    prevalence: Annotated[float, Field(gt=0, lt=1)]


class MissingIndicator(StrictModel):
    """Derived feature: 1 where ``of`` is missing, else 0."""

    kind: Literal["missing"]
    name: str
    of: str


class Bins(StrictModel):
    """Derived features: one indicator per bin of ``of``, ``edges[i] <= x < edges[i+1]``."""

    kind: Literal["bins"]
    name: str
    of: str
    edges: Annotated[tuple[float, ...], Field(min_length=2)]


class Product(StrictModel):
    """Derived feature: product of two features after scaling."""

    kind: Literal["product"]
    name: str
    of: tuple[str, str]


class Ratio(StrictModel):
    """Derived feature: ``of[0] / of[1] / scale`` in raw units; 0 where it does not exist."""

    kind: Literal["ratio"]
    name: str
    of: tuple[str, str]
    scale: Annotated[float, Field(gt=0)] = 1.0


Derived = Annotated[MissingIndicator | Bins | Product | Ratio, Field(discriminator="kind")]


class CohortSpec(StrictModel):
    """What a tabular disease data set is.

    Attributes:
        name: short, used in paths.
        title: for people.
        id_column: identifies a patient within a hospital.
        label: the outcome.
        missing_markers: spellings of a missing value, the empty field included.
        columns: every other column, in the file's order.
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
    id_column: str
    label: Label
    missing_markers: tuple[str, ...] = ("",)
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    groups: dict[str, tuple[str, ...]]
    derived: tuple[Derived, ...] = ()
    age_column: str
    risk_flags: tuple[str, ...] = ()
    subgroups: tuple[str, ...] = ()
    kaggle: KaggleSource | None = None
    synthetic: SyntheticRecipe | None = None

    @model_validator(mode="after")
    def _names_fit(self) -> CohortSpec:
        names = [column.name for column in self.columns]
        reserved = {self.id_column, self.label.column}
        twice = sorted({n for n in names if names.count(n) > 1 or n in reserved})
        if twice:
            raise ValueError(f"columns named more than once: {', '.join(twice)}")
        grouped = [name for group in self.groups.values() for name in group]
        if sorted(grouped) != sorted(names):
            odd = sorted(set(grouped) ^ set(names)) or ["a column in two groups"]
            raise ValueError(f"groups must hold each column once; see {', '.join(odd)}")
        features = names + [derived.name for derived in self.derived]
        for derived in self.derived:
            of = (derived.of,) if isinstance(derived.of, str) else derived.of
            known = features if isinstance(derived, Product) else names
            strange = sorted(set(of) - set(known))
            if strange:
                raise ValueError(f"derived {derived.name} uses unknown {', '.join(strange)}")
        for name in (self.age_column, *self.subgroups):
            if name not in names:
                raise ValueError(f"{name} is not a column")
        if not isinstance(self.column(self.age_column), NumberColumn):
            raise ValueError(f"age_column {self.age_column} must be a number")
        return self

    @model_validator(mode="after")
    def _risk_flags_are_flags(self) -> CohortSpec:
        flags = {column.name for column in self.columns if isinstance(column, FlagColumn)}
        strange = sorted(set(self.risk_flags) - flags)
        if strange:
            raise ValueError(f"risk_flags: {', '.join(strange)} not among the flag columns")
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
    def file_columns(self) -> list[str]:
        """Every column of a data file: id, features, label."""
        return [self.id_column, *self.column_names, self.label.column]

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

    def column(self, name: str) -> NumberColumn | CategoryColumn | FlagColumn:
        """Return the column of that name; ``KeyError`` where there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


class KaggleSource(StrictModel):
    """Where the cohort's public data set is on Kaggle."""

    handle: str
    file: str


CohortSpec.model_rebuild()


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

"""``CohortSpec``: everything the system knows about a tabular disease data set, from one YAML."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fl_assets.cohorts.synthetic_check import check_recipe
from fl_assets.cohorts.synthetic_spec import SyntheticRecipe
from fl_assets.config import ConfigFileError, StrictModel, parse_yaml_model, read_config


def check_ascending(what: str, edges: Sequence[float]) -> None:
    """Raise ``ValueError`` unless every edge is above the one before it."""
    if list(edges) != sorted(set(edges)):
        raise ValueError(f"{what} must ascend")


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
        bins: public edges of the released histogram, ascending; they cover ``range``, so that no
            accepted value falls beside them.
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
        check_ascending("bins", self.bins)
        if self.bins[0] > self.range[0] or self.bins[-1] < self.range[1]:
            raise ValueError(
                f"bins {self.bins[0]:g} to {self.bins[-1]:g} must cover the range "
                f"{self.range[0]:g} to {self.range[1]:g}"
            )
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

    @model_validator(mode="after")
    def _edges_in_order(self) -> Bins:
        check_ascending("edges", self.edges)
        return self


class Product(StrictModel):
    """Derived feature: product of two features after scaling.

    A feature is a number or flag column, ``column=category``, or an earlier derived one.
    """

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


class KaggleSource(StrictModel):
    """Where the cohort's public data set is on Kaggle."""

    handle: str
    file: str


class CohortSpec(StrictModel):
    """What a tabular disease data set is.

    Attributes:
        name: short, used in paths.
        title: for people.
        id_column: identifies a patient within a hospital.
        label: the outcome.
        missing_markers: spellings of a missing value, the empty field among them; the first is
            used for writing.
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
    missing_markers: Annotated[tuple[str, ...], Field(min_length=1)] = ("",)
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
        grouped = [name for group in self.groups.values() for name in group]
        if sorted(grouped) != sorted(self.column_names):
            odd = sorted(set(grouped) ^ set(self.column_names)) or ["a column in two groups"]
            raise ValueError(f"groups must hold each column once; see {', '.join(odd)}")
        return self

    @model_validator(mode="after")
    def _markers_are_no_categories(self) -> CohortSpec:
        for column in self.columns:
            if isinstance(column, CategoryColumn):
                lost = sorted(set(column.categories) & set(self.missing_markers))
                if lost:
                    raise ValueError(f"{column.name}: {lost} cannot be category and missing marker")
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

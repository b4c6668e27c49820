"""The columns of a cohort: numbers, categories, flags and the label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fl_assets.cohorts.spellings import Spelling, check_apart
from fl_assets.config import StrictModel

ONES: tuple[str, ...] = ("1",)
ZEROS: tuple[str, ...] = ("0",)


def added(default: Any) -> Any:
    """Return a field that is written only where it is used.

    So the version of a contract that does not use it, and of every model made under it, stays.
    """
    return Field(default, exclude_if=lambda value: value == default)


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
        missing_markers: spellings of a missing value in this column, beside the cohort's.
        public: data-independent scaling.
        bins: public edges of the released histogram, ascending; they cover ``range``, so that no
            accepted value falls beside them.
    """

    kind: Literal["number"]
    name: str
    range: tuple[float, float]
    unit: str = ""
    nullable: bool = False
    missing_markers: tuple[Spelling, ...] = added(())
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
        categories: names of the values; a file may hold them as they are.
        codes: what else a file holds, by spelling, and which category it is.
        reference: the category that the one-hot coding leaves out.
        ignored: categories too rare to have a feature of their own; coded like the reference.
        nullable, missing_markers: as of a number.
    """

    kind: Literal["category"]
    name: str
    categories: Annotated[tuple[Spelling, ...], Field(min_length=2)]
    codes: dict[Spelling, Spelling] = added({})
    reference: Spelling
    ignored: tuple[Spelling, ...] = ()
    nullable: bool = False
    missing_markers: tuple[Spelling, ...] = added(())

    @model_validator(mode="after")
    def _names_are_known(self) -> CategoryColumn:
        strange = {self.reference, *self.ignored, *self.codes.values()} - set(self.categories)
        if strange:
            raise ValueError(f"{', '.join(sorted(strange))} not among the categories")
        check_apart("categories and codes", self.spellings)
        return self

    @property
    def spellings(self) -> dict[str, list[str]]:
        """Every spelling that a file may hold, by category."""
        return {
            category: [category, *(code for code, name in self.codes.items() if name == category)]
            for category in self.categories
        }

    @property
    def coded(self) -> tuple[str, ...]:
        """Categories that get a feature, in the order of the list."""
        left_out = {self.reference, *self.ignored}
        return tuple(c for c in self.categories if c not in left_out)


class BinaryValue(StrictModel):
    """Something that is so or not, 1 or 0.

    Attributes:
        positive, negative: what a file holds for 1 and for 0.
    """

    positive: Annotated[tuple[Spelling, ...], Field(min_length=1)] = added(ONES)
    negative: Annotated[tuple[Spelling, ...], Field(min_length=1)] = added(ZEROS)

    @model_validator(mode="after")
    def _codes_differ(self) -> BinaryValue:
        check_apart("codes", self.spellings)
        return self

    @property
    def spellings(self) -> dict[str, tuple[str, ...]]:
        """Every spelling that a file may hold, by meaning."""
        return {"positive": self.positive, "negative": self.negative}

    @property
    def coded(self) -> bool:
        """Whether a file holds something else than the numbers 1 and 0."""
        return (self.positive, self.negative) != (ONES, ZEROS)


class FlagColumn(BinaryValue):
    """A yes/no value.

    Attributes:
        nullable, missing_markers: as of a number.
    """

    kind: Literal["flag"]
    name: str
    nullable: bool = False
    missing_markers: tuple[Spelling, ...] = added(())


Column = Annotated[NumberColumn | CategoryColumn | FlagColumn, Field(discriminator="kind")]


class Label(BinaryValue):
    """The outcome to predict.

    Attributes:
        column: its name in the file.
        prevalence: publicly known rate, the default start of a model's bias.
    """

    column: str
    prevalence: Annotated[float, Field(gt=0, lt=1)]

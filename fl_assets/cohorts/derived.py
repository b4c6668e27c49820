"""Features that a cohort computes from its columns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fl_assets.cohorts.columns import check_ascending
from fl_assets.config import StrictModel


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

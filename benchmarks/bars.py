"""Bars: figures with a limit, and what becomes of a benchmark that misses one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import typer
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Bar:
    """A figure with the limit that it must reach or, with ``at_most``, not exceed."""

    name: str
    figure: float
    limit: float
    at_most: bool = False

    @property
    def passed(self) -> bool:
        """Whether it holds; a figure that does not exist (NaN) passes nothing."""
        return self.figure <= self.limit if self.at_most else self.figure >= self.limit

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"passed": self.passed}


@dataclass(frozen=True)
class Report:
    """What a part of a benchmark found.

    Attributes:
        document: for JSON.
        shown: for people.
        bars: to be reached.
    """

    document: dict[str, Any]
    shown: list[Table | str]
    bars: list[Bar]


def show(bars: Sequence[Bar], out: Console) -> None:
    """Print a line per bar."""
    for bar in bars:
        verdict, sign = "pass" if bar.passed else "FAIL", "<=" if bar.at_most else ">="
        out.print(f"{verdict}  {bar.name}: {bar.figure:.4g} ({sign} {bar.limit:g})")


def enforce(bars: Sequence[Bar]) -> None:
    """End the command with exit code 1 where a bar is missed."""
    if not all(bar.passed for bar in bars):
        raise typer.Exit(1)

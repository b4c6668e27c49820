"""What all assets share: how they fail, and how they show tables and plots."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import BaseModel

from fl_assets.errors import BadDataError, FlAssetsError

if TYPE_CHECKING:
    from fl_assets.reporting.html import Picture, Table

SITE = ["team:hospital-data-engineering"]
COORDINATOR = ["team:federation"]
DEMO = {"fl/demo_only": "true"}


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Turn our errors into Dagster failures that say what to do; bad data is never retried."""
    try:
        yield
    except FlAssetsError as error:
        raise dg.Failure(
            description=f"{type(error).__name__}: {error}",
            allow_retries=not isinstance(error, BadDataError),
        ) from error


@contextmanager
def retried(max_retries: int, delay: float) -> Iterator[None]:
    """Have Dagster try a step again, unless its data are bad or its run was cancelled.

    Dagster's own ``RetryPolicy`` also tries a cancelled step again, in the seconds that the run's
    process has left, and what that attempt starts is not cleaned up.

    Args:
        max_retries: further attempts.
        delay: seconds before each.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, dg.Failure) and not error.allow_retries:
            raise
        raise dg.RetryRequested(max_retries, delay) from error


def digest(*parts: object) -> str:
    """Return a short hash of configuration that belongs to an asset's code version."""
    text = "\x1f".join(
        part.model_dump_json() if isinstance(part, BaseModel) else str(part) for part in parts
    )
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def picture(found: Picture) -> dg.MarkdownMetadataValue:
    """Return a plot as inline image."""
    from fl_assets.reporting.images import markdown_image

    return dg.MetadataValue.md(markdown_image(found.png, found.alt))


def table(found: Table) -> dg.MarkdownMetadataValue:
    """Return a table as Markdown."""
    return markdown_table(found.columns, found.rows)


def markdown_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> dg.MarkdownMetadataValue:
    """Return rows as a Markdown table."""
    lines = [list(map(str, columns)), ["---"] * len(columns), *(list(map(str, r)) for r in rows)]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines))


def count_table(counts: Mapping[str, object], name: str, value: str) -> dg.MarkdownMetadataValue:
    """Return a mapping as a two-column table."""
    return markdown_table([name, value], list(counts.items()))

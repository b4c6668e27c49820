"""One self-contained HTML file out of texts, tables and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from fl_assets.errors import FlAssetsError
from fl_assets.reporting.images import data_uri

Cell = str | int | float | bool | None


class RaggedTableError(FlAssetsError):
    """A table whose rows do not fit its header."""

    def __init__(self, caption: str, columns: int, found: int) -> None:
        super().__init__(
            f"table {caption!r} has {columns} columns but a row of {found} cells: give every row "
            "one cell per column, None where there is no value"
        )


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        caption: what it shows.
        columns: headers.
        rows: cells; ``None`` is shown as a dash, a float with four significant digits.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise RaggedTableError(self.caption, len(self.columns), len(row))


@dataclass(frozen=True)
class Picture:
    """An image.

    Attributes:
        png: its bytes.
        alt: says to those who cannot see it what it shows.
    """

    png: bytes
    alt: str

    @property
    def name(self) -> str:
        """The alt text as a file or metadata name."""
        return self.alt.lower().replace(" ", "_")


@dataclass(frozen=True)
class Section:
    """A part of the report under its own heading.

    Attributes:
        title: heading; also in the table of contents.
        text: paragraphs separated by blank lines; markup in it is shown as it is.
        tables: after the text.
        images: after the tables.
    """

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    images: Sequence[Picture] = ()


def render(title: str, sections: Sequence[Section]) -> str:
    """Return the report as one HTML document that loads nothing from elsewhere.

    All text is escaped. Light or dark follows the reader's system; wide tables scroll within
    themselves, also by keyboard.
    """
    environment = Environment(
        loader=PackageLoader("fl_assets.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        cell=cell_text, number=_is_number, paragraphs=_paragraphs, uri=data_uri
    )
    return environment.get_template("report.html").render(title=title, sections=sections)


def cell_text(value: Cell) -> str:
    """Return what stands in a cell: a dash where there is no value."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def _is_number(value: Cell) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _paragraphs(text: str) -> list[str]:
    return [paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip()]

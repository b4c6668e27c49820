"""How a data file spells values: codes, missing markers, and numbers that are codes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = "\0"
"""Canonical text of a spelling that is no code. No field of a file can be spelt like this: a file
that holds it is refused."""

_NUMBER = re.compile(r"([-+]?)0*([0-9]*)(?:\.([0-9]*?)0*)?")


def _spelling(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("put it in quotes: YAML takes yes, no, on, off, true and false for itself")
    return str(value) if isinstance(value, int | float) else value


Spelling = Annotated[str, BeforeValidator(_spelling)]
"""Text as a file holds it; a number in the YAML counts as its text."""


def plain(text: str) -> str:
    """Return one text for all spellings of a decimal number: ``01``, ``1.0`` and ``+1`` are ``1``.

    Any other text is returned as it is.
    """
    found = _NUMBER.fullmatch(text)
    if found is None or not any(character.isdigit() for character in text):
        return text
    sign, whole, fraction = found.groups(default="")
    number = (whole or "0") + (f".{fraction}" if fraction else "")
    return f"-{number}" if sign == "-" and number != "0" else number


def check_apart(what: str, spellings: Mapping[str, Iterable[str]]) -> None:
    """Raise ``ValueError`` where one spelling stands for two things, given by name."""
    seen: dict[str, str] = {}
    for meaning, texts in spellings.items():
        for text in texts:
            other = seen.setdefault(plain(text), meaning)
            if other != meaning:
                raise ValueError(f"{what}: {text!r} cannot stand for {other} and for {meaning}")


@dataclass(frozen=True)
class Coding:
    """From the spellings of one column to canonical text.

    Attributes:
        missing: spellings of a missing value, each as :func:`plain` has it.
        codes: canonical text by plain spelling; empty where any text may stand.
    """

    missing: frozenset[str]
    codes: Mapping[str, str]

    def canonical(self, text: str) -> str | None:
        """Return the canonical text, None for a missing value, ``UNKNOWN`` for no code."""
        short = plain(text)
        if short in self.missing:
            return None
        return self.codes.get(short, UNKNOWN) if self.codes else text

    def apply(self, texts: pd.Series[Any]) -> pd.Series[Any]:
        """Return the canonical texts of a whole column, None for missing ones."""
        import pandas as pd

        known = {text: self.canonical(text) for text in texts.dropna().unique()}
        return pd.Series([known.get(text) for text in texts], texts.index, object)

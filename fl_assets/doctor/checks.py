"""A check, and what it finds."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from fl_assets.errors import FlAssetsError


class Verdict(StrEnum):
    """What became of a check."""

    PASSED = "passed"
    PROBLEM = "problem"
    NOT_CHECKED = "not checked"
    BROKEN = "could not be run"


class ProblemError(FlAssetsError):
    """A check found something that is wrong."""


class NotCheckedError(FlAssetsError):
    """Whether it is right cannot be seen from here; the message says why."""


@dataclass(frozen=True)
class Check:
    """Something that has to be right.

    Attributes:
        name: of it.
        look: returns what was found, in words, without a secret.
        cure: what to do where it is wrong, in one sentence.
    """

    name: str
    look: Callable[[], str]
    cure: str


@dataclass(frozen=True)
class Finding:
    """What a check has found.

    Attributes:
        check: its name.
        verdict: of it.
        found: in words; of a problem its cause.
        cure: of a problem.
    """

    check: str
    verdict: Verdict
    found: str
    cure: str | None = None


def examine(check: Check) -> Finding:
    """Carry out a check; whatever it raises is a finding."""
    try:
        return Finding(check.name, Verdict.PASSED, check.look())
    except NotCheckedError as reason:
        return Finding(check.name, Verdict.NOT_CHECKED, str(reason))
    except FlAssetsError as error:
        return Finding(check.name, Verdict.PROBLEM, _without_password(str(error)), check.cure)
    except Exception as error:
        # Without its message: nobody has seen to it that it holds no secret.
        at = traceback.extract_tb(error.__traceback__)[-1]
        found = f"{type(error).__name__} at {at.filename}:{at.lineno}"
        return Finding(check.name, Verdict.BROKEN, found, "Report this as an error of fl_assets.")


def _without_password(text: str) -> str:
    """Return a text without the user and password of the URLs in it, as libraries quote them."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def exit_code(findings: list[Finding]) -> int:
    """Return 0 if nothing is wrong, 1 if something is, 2 if a check could not be run."""
    verdicts = {finding.verdict for finding in findings}
    if Verdict.PROBLEM in verdicts:
        return 1
    return 2 if Verdict.BROKEN in verdicts else 0

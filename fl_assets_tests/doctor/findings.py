"""Carries checks out and finds one again by its name."""

from __future__ import annotations

from collections.abc import Iterable

from fl_assets.doctor.checks import Check, Finding, Verdict, examine


def findings(checks: Iterable[Check]) -> dict[str, Finding]:
    return {check.name: examine(check) for check in checks}


def verdicts(checks: Iterable[Check]) -> dict[str, Verdict]:
    return {name: finding.verdict for name, finding in findings(checks).items()}

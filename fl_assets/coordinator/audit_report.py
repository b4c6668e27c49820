"""An audit as table and plot."""

from __future__ import annotations

from fl_assets.coordinator.audit import Finding, MembershipAudit
from fl_assets.privacy.attacks import Attack
from fl_assets.reporting.audit_plots import attack_roc
from fl_assets.reporting.html import Cell, Picture, Table

_ATTACKS = {Attack.LOSS_THRESHOLD: "loss threshold", Attack.LIKELIHOOD_RATIO: "LiRA"}
_SUBJECTS = {"candidate": "candidate", "control": "over-fitted control"}


def audit_table(found: MembershipAudit) -> Table:
    """Return what every attack shows."""
    claim = found.claimed_epsilon
    return Table(
        f"Attacks on membership, {found.recipe} version {found.version} (claimed epsilon: "
        f"{'none' if claim is None else f'{claim:g}'}); AUROC 0.5 is chance, intervals are 95 %, "
        "epsilon is a lower bound",
        [
            "model",
            "people",
            "attack",
            "members",
            "others",
            "AUROC",
            "found at 1 % false alarms",
            "epsilon",
        ],
        [_row(finding) for finding in found.findings],
    )


def _row(finding: Finding) -> list[Cell]:
    result = finding.result
    named: list[Cell] = [_SUBJECTS[finding.subject], finding.group, _ATTACKS[finding.attack]]
    if result is None:
        return [*named, *[None] * 5]
    return [
        *named,
        result.members,
        result.others,
        shown(finding),
        f"{result.hits:.3f} [{result.hits_low:.3f}, {result.hits_high:.3f}]",
        f"{result.epsilon:.2f}",
    ]


def shown(finding: Finding) -> str:
    """Return the area under the attack's ROC with its interval, or that there is none."""
    result = finding.result
    if result is None:
        return "not available"
    return f"{result.auroc:.3f} [{result.auroc_low:.3f}, {result.auroc_high:.3f}]"


def audit_plot(found: MembershipAudit) -> Picture:
    """Return the ROC of LiRA on candidate and control, for everybody and for the positives."""
    curves = {
        f"{_SUBJECTS[f.subject]}, {f.group} (AUROC {f.result.auroc:.3f}, "
        f"n = {f.result.members + f.result.others:,})": f.result.roc
        for f in found.findings
        if f.attack is Attack.LIKELIHOOD_RATIO and f.result is not None
    }
    return Picture(attack_roc(curves, "Attack on membership (LiRA)"), "Attack ROC")

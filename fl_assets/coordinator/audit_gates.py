"""The gates of a promotion that an audit decides."""

from __future__ import annotations

from fl_assets.coordinator.audit import GROUPS, Group, MembershipAudit, find_audit
from fl_assets.coordinator.audit_report import shown
from fl_assets.coordinator.decision import GateResult
from fl_assets.coordinator.release import ReleaseRecord
from fl_assets.storage import SiteStore


def audit_gates(store: SiteStore, release: ReleaseRecord, limit: float) -> list[GateResult]:
    """Return the verdicts on a release: audited, by an attack that works, and not exposed.

    Args:
        store: the coordinator's.
        release: the candidate's.
        limit: area under the ROC of an attack that may not be shown to be exceeded.
    """
    audit = find_audit(store, release.recipe.name)
    audited = GateResult(
        gate="audited version",
        asked=release.version,
        found="not audited" if audit is None else audit.version,
        passed=audit is not None and audit.is_of(release),
    )
    if audit is None:
        return [audited]
    return [audited, _control(audit, limit), *exposure_gates(audit, limit)]


def exposure_gates(audit: MembershipAudit, limit: float) -> list[GateResult]:
    """Return the verdicts on what the attacks show of the candidate.

    Chance alone puts an estimate above any limit now and then, so what counts is what is shown: the
    whole interval above the limit, the lower bound of epsilon above the claim.
    """
    claim, found = audit.claimed_epsilon, audit.epsilon
    return [
        *(_exposure(audit, group, limit) for group in GROUPS),
        GateResult(
            gate="epsilon that an attack shows",
            asked="no claim" if claim is None else f"at most {claim:g}",
            found="not available" if found is None else f"{found:.2f}",
            passed=claim is None or found is None or found <= claim,
        ),
    ]


def _control(audit: MembershipAudit, limit: float) -> GateResult:
    return GateResult(
        gate="attack on the over-fitted control",
        asked=f"shown above {limit:g}",
        found=shown(audit.control),
        passed=audit.control.exceeds(limit),
    )


def _exposure(audit: MembershipAudit, group: Group, limit: float) -> GateResult:
    findings = audit.of("candidate", group)
    worst = max(findings, key=lambda f: f.result.auroc_low if f.result else 0.0)
    return GateResult(
        gate=f"attack on membership, {group}",
        asked=f"not shown above {limit:g}",
        found=shown(worst),
        passed=not worst.exceeds(limit),
    )

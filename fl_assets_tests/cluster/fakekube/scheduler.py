"""Which node a pod may run on."""

from __future__ import annotations

from collections import Counter

from fl_assets_tests.cluster.fakekube.kinds import Manifest, labels_of


def place(nodes: list[Manifest], spec: Manifest) -> tuple[str, str]:
    """Return the name of a node, or an empty one and why there is none."""
    reasons: Counter[str] = Counter()
    for node in nodes:
        reason = _obstacle(node, spec)
        if not reason:
            return node["metadata"]["name"], ""
        reasons[reason] += 1
    why = ", ".join(f"{count} node(s) {reason}" for reason, count in sorted(reasons.items()))
    return "", f"0/{len(nodes)} nodes are available: {why}."


def _obstacle(node: Manifest, spec: Manifest) -> str:
    if not (spec.get("nodeSelector") or {}).items() <= labels_of(node).items():
        return "didn't match Pod's node affinity/selector"
    for taint in (node.get("spec") or {}).get("taints") or []:
        hard = taint["effect"] in ("NoSchedule", "NoExecute")
        if hard and not any(_tolerates(t, taint) for t in spec.get("tolerations") or []):
            return f"had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    return ""


def _tolerates(toleration: Manifest, taint: Manifest) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return bool(
        toleration.get("key") == taint["key"]
        and toleration.get("value", "") == taint.get("value", "")
    )

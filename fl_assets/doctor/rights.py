"""What the coordinator's account may ask of the Kubernetes API, and what it must be refused.

The chart ``fl-consortium`` grants the same; a test compares the two. A resource is written
``group/resource:subresource``.
"""

from __future__ import annotations

Rights = frozenset[tuple[str, str]]
"""Pairs of verb and resource."""

_JOBS = {(verb, "batch/jobs") for verb in ("create", "get", "list", "deletecollection")}
_IN_BOTH = _JOBS | {
    ("get", "pods"),
    ("list", "pods"),
    ("list", "events"),
    ("create", "secrets"),
}

IN_TRAINING: Rights = frozenset(
    _IN_BOTH | {("get", "pods:log"), ("create", "services"), ("get", "services")}
)
"""In the namespace of trainings."""

IN_HOSPITAL: Rights = frozenset(_IN_BOTH)
"""In the namespace of a hospital."""

REFUSED: Rights = frozenset(
    {
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "pods"),
        ("create", "pods:exec"),
        ("create", "serviceaccounts:token"),
        ("create", "rbac.authorization.k8s.io/rolebindings"),
    }
)
"""Everywhere: each would give what belongs to another account."""

REFUSED_IN_HOSPITAL: Rights = REFUSED | {("get", "pods:log")}
"""Logs of a hospital's pods may speak of patients."""

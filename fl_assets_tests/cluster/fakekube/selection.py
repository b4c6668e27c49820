"""Label and field selectors."""

from __future__ import annotations

import re

from fl_assets_tests.cluster.fakekube.errors import ApiError
from fl_assets_tests.cluster.fakekube.kinds import Kind, Manifest, labels_of

# A comma inside parentheses separates the values of one term.
BETWEEN_TERMS = re.compile(r",(?![^(]*\))")
SET_TERM = re.compile(r"^(?P<key>\S+)\s+(?P<operator>in|notin)\s*\((?P<values>[^)]*)\)$")
EQUALITY_TERM = re.compile(r"^(?P<key>[^=!\s]+)\s*(?P<operator>==|=|!=)\s*(?P<value>[^=!]*)$")
PRESENCE_TERM = re.compile(r"^(?P<absent>!?)\s*(?P<key>[^=!\s()]+)$")

# As the API server has it: another field is refused, not ignored.
FIELDS = {
    "Pod": {
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
    },
    "Job": {"status.successful"},
    "Event": {
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "reason",
        "type",
    },
    "Secret": {"type"},
    "Namespace": {"status.phase"},
}


def _label_term(term: str, labels: dict[str, str]) -> bool:
    if found := SET_TERM.match(term):
        values = {value.strip() for value in found["values"].split(",")}
        return (labels.get(found["key"]) in values) == (found["operator"] == "in")
    if found := EQUALITY_TERM.match(term):
        return (labels.get(found["key"]) == found["value"].strip()) == (found["operator"] != "!=")
    if found := PRESENCE_TERM.match(term):
        return (found["key"] in labels) != bool(found["absent"])
    raise ApiError(400, f"unable to parse requirement: {term!r} of the label selector")


def _field(manifest: Manifest, path: str) -> str:
    value: object = manifest
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value)


def _field_term(kind: Kind, term: str, manifest: Manifest) -> bool:
    found = EQUALITY_TERM.match(term)
    if not found:
        raise ApiError(400, f"invalid field selector: {term!r}")
    path = found["key"]
    if path not in {"metadata.name", "metadata.namespace"} | FIELDS.get(kind.name, set()):
        raise ApiError(400, f'field label not supported: "{path}" of {kind.resource}')
    same = _field(manifest, path) == found["value"].strip()
    return same == (found["operator"] != "!=")


class Selector:
    """What a list, a watch or the removal of a collection is about."""

    def __init__(self, kind: Kind, fields: str = "", labels: str = "") -> None:
        self.kind = kind
        self.fields = [term.strip() for term in fields.split(",") if term.strip()]
        self.labels = [term.strip() for term in BETWEEN_TERMS.split(labels) if term.strip()]
        # A selector that cannot be read is refused also where there is nothing to select from.
        self.matches({"metadata": {}})

    def matches(self, manifest: Manifest) -> bool:
        """Tell whether an object is selected."""
        labels = labels_of(manifest)
        # All terms, so that a wrong one is always seen.
        return all(
            [_field_term(self.kind, term, manifest) for term in self.fields]
            + [_label_term(term, labels) for term in self.labels]
        )

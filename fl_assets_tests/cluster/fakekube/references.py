"""Values of Secrets, ConfigMaps and of the pod itself, which a container refers to."""

from __future__ import annotations

import base64
import re

from fl_assets_tests.cluster.fakekube.kinds import CONFIG_MAP, SECRET, Kind, Manifest
from fl_assets_tests.cluster.fakekube.store import Store

SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['(?P<key>[^']+)'\]$")


class MissingError(Exception):
    """Something that a pod refers to is not there yet."""


def content(store: Store, kind: Kind, namespace: str, name: str) -> dict[str, bytes] | None:
    """Return the data of a Secret or ConfigMap, None if it is not there."""
    found = store.get(kind, namespace, name)
    if found is None:
        return None
    data = found.get("data") or {}
    if kind is SECRET:
        return {key: base64.b64decode(value) for key, value in data.items()}
    binary = found.get("binaryData") or {}
    texts = {key: value.encode() for key, value in data.items()}
    return texts | {key: base64.b64decode(value) for key, value in binary.items()}


def required(store: Store, kind: Kind, namespace: str, reference: Manifest) -> dict[str, bytes]:
    """Return the data that a reference names, none if it is optional, else ``MissingError``."""
    name = reference["name"]
    found = content(store, kind, namespace, name)
    if found is None and not reference.get("optional"):
        raise MissingError(f'{kind.name.lower()} "{name}" not found')
    return found or {}


def value_of(store: Store, pod: Manifest, source: Manifest) -> str | None:
    """Return what ``valueFrom`` names, None if it is optional and not there."""
    if "fieldRef" in source:
        return field(pod, source["fieldRef"]["fieldPath"])
    kind, reference = (
        (SECRET, source["secretKeyRef"])
        if "secretKeyRef" in source
        else (CONFIG_MAP, source["configMapKeyRef"])
    )
    namespace, key = pod["metadata"]["namespace"], reference["key"]
    data = required(store, kind, namespace, reference)
    if key in data:
        return data[key].decode()
    if not reference.get("optional"):
        raise MissingError(
            f"couldn't find key {key} in {kind.name} {namespace}/{reference['name']}"
        )
    return None


def field(pod: Manifest, path: str) -> str:
    """Return a field of a pod, as the downward API gives it."""
    if found := SUBSCRIPT.match(path):
        return str((pod["metadata"].get(found[1]) or {}).get(found["key"], ""))
    value: object = pod
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value)

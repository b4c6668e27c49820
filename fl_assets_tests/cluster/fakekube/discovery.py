"""What a client asks about the API itself: groups, kinds and, in short, OpenAPI."""

from __future__ import annotations

from fl_assets_tests.cluster.fakekube.kinds import BY_RESOURCE, KINDS, POD, Kind, Manifest
from fl_assets_tests.cluster.fakekube.validation import VERSION

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def document(path: str) -> Manifest | None:
    """Return the document at a path, None if there is none."""
    if path == "/version":
        major, minor = VERSION.split(".")
        return {"major": major, "minor": minor, "gitVersion": f"v{VERSION}.0-fake"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups()}
    if path == "/openapi/v3":
        paths = {p: {"serverRelativeURL": f"/openapi/v3/{p}"} for p in _places()}
        return {"paths": paths}
    place = path.removeprefix("/openapi/v3/")
    if place != path and place in _places():
        return _openapi(_places()[place])
    kinds = _places().get(path.strip("/"))
    return _resources(kinds) if kinds else None


def _places() -> dict[str, list[Kind]]:
    """Return the kinds at each place, such as ``apis/batch/v1``."""
    found: dict[str, list[Kind]] = {}
    for kind in BY_RESOURCE.values():
        place = f"apis/{kind.api_version}" if kind.group else "api/v1"
        found.setdefault(place, []).append(kind)
    return found


def _groups() -> list[Manifest]:
    names = sorted({kind.group for kind in BY_RESOURCE.values() if kind.group})
    versions = {name: {"groupVersion": f"{name}/v1", "version": "v1"} for name in names}
    return [
        {"name": name, "versions": [version], "preferredVersion": version}
        for name, version in versions.items()
    ]


def _resources(kinds: list[Kind]) -> Manifest:
    resources = [
        {
            "name": kind.plural,
            "singularName": kind.name.lower(),
            "namespaced": kind.namespaced,
            "kind": kind.name,
            "verbs": VERBS if kind in KINDS else ["create"],
            "shortNames": [kind.short] if kind.short else [],
        }
        for kind in kinds
    ]
    if POD in kinds:
        log = {"name": "pods/log", "singularName": "", "namespaced": True, "kind": POD.name}
        resources.append({**log, "verbs": ["get"]})
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": kinds[0].api_version,
        "resources": resources,
    }


def _openapi(kinds: list[Kind]) -> Manifest:
    """Tell kubectl that the server validates, so that it need not."""
    parameter = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
    paths = {}
    for kind in kinds:
        named = {"group": kind.group, "version": "v1", "kind": kind.name}
        patch = {"x-kubernetes-group-version-kind": named, "parameters": [parameter]}
        paths[f"/{kind.plural}/{{name}}"] = {"patch": {**patch, "responses": {}}}
    return {"openapi": "3.0.0", "info": {"title": "fakekube", "version": VERSION}, "paths": paths}

"""Garbage collection: what is owned goes with its owner, what is in a namespace goes with that."""

from __future__ import annotations

import contextlib

from fl_assets_tests.cluster.fakekube.api import FOREGROUND, Api, Deletion
from fl_assets_tests.cluster.fakekube.errors import ApiError
from fl_assets_tests.cluster.fakekube.kinds import NAMESPACE, Manifest, kind_of


def collect_garbage(api: Api) -> None:
    """Collect until the store closes."""
    while not api.store.closed:
        _collect(api)
        api.store.wait(0.05)


def _collect(api: Api) -> None:
    everything = api.store.everything()
    # An owner that goes in the foreground waits for what it owns; any other keeps that until its
    # own end.
    staying = {
        item["metadata"]["uid"]
        for item in everything
        if FOREGROUND not in item["metadata"].get("finalizers", [])
    }
    for item in everything:
        owners = {r["uid"] for r in item["metadata"].get("ownerReferences") or []}
        if owners and not owners & staying:
            _delete(api, item)
        if item["kind"] == NAMESPACE.name and item["metadata"].get("deletionTimestamp"):
            _empty(api, item)
        if FOREGROUND in item["metadata"].get("finalizers", []):
            _let_go(api, item)


def _delete(api: Api, item: Manifest) -> None:
    meta = item["metadata"]
    if not meta.get("deletionTimestamp"):
        with contextlib.suppress(ApiError):
            deletion = Deletion("Background", uid=meta["uid"])
            api.delete(kind_of(item), meta.get("namespace"), meta["name"], deletion)


def _empty(api: Api, namespace: Manifest) -> None:
    name = namespace["metadata"]["name"]
    inside = [m for m in api.store.everything() if m["metadata"].get("namespace") == name]
    for item in inside:
        _delete(api, item)
    if not inside:
        api.store.remove(namespace)


def _let_go(api: Api, owner: Manifest) -> None:
    if not api.dependents(owner["metadata"]["uid"]):

        def release(item: Manifest) -> None:
            item["metadata"]["finalizers"].remove(FOREGROUND)

        released = api.store.update(owner, release)
        if released and not released["metadata"]["finalizers"]:
            api.store.remove(released)

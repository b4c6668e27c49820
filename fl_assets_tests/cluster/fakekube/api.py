"""The verbs of the API, without HTTP: what requests and controllers do to the store."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fl_assets_tests.cluster.fakekube.admission import Admission
from fl_assets_tests.cluster.fakekube.errors import ApiError, invalid, not_found
from fl_assets_tests.cluster.fakekube.kinds import (
    ACCOUNT,
    JOB,
    NAMESPACE,
    POD,
    Kind,
    Manifest,
)
from fl_assets_tests.cluster.fakekube.patching import patched
from fl_assets_tests.cluster.fakekube.policies import Policies, Review
from fl_assets_tests.cluster.fakekube.selection import Selector
from fl_assets_tests.cluster.fakekube.store import Store, stamp
from fl_assets_tests.cluster.fakekube.validation import validate

FOREGROUND = "foregroundDeletion"
CONTROLLER = "system:serviceaccount:kube-system:job-controller"
FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Deletion:
    """Options of a removal: propagation policy, grace in seconds, the uid that is meant."""

    policy: str | None = None
    grace: int | None = None
    uid: str | None = None


class Api:
    """Creates, alters and removes objects as the API server does."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.admission = Admission(store)
        self._policies = Policies(store)

    def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        """Return an object; 404 if it is not there."""
        found = self.store.get(kind, namespace, name)
        if found is None:
            raise not_found(kind.resource, name)
        return found

    def select(self, selector: Selector, namespace: str | None) -> list[Manifest]:
        """Return the selected objects, of all namespaces if None."""
        return [m for m in self.store.of_kind(selector.kind, namespace) if selector.matches(m)]

    def create(
        self, kind: Kind, namespace: str | None, manifest: Manifest, user: str = CONTROLLER
    ) -> Manifest:
        """Store a new object; 404, 409, 403 or 422 if it cannot be."""
        meta = _in_place(kind, namespace, manifest)
        if meta.get("resourceVersion"):
            raise ApiError(400, "resourceVersion should not be set on objects to be created")
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + uuid.uuid4().hex[:5]
        if not meta.get("name"):
            raise invalid(kind.title, "", "metadata.name", "Required value: name or generateName")
        with self.store.changed:
            self.admission.check_place(kind, namespace)
            validate(kind, manifest)
            if self.store.get(kind, namespace, meta["name"]):
                message = f'{kind.resource} "{meta["name"]}" already exists'
                raise ApiError(409, message, "AlreadyExists")
            self.admission.admit(kind, manifest)
            self._policies.check(Review(kind, user, manifest))
            made = self.store.put(kind, manifest)
            if kind is NAMESPACE:
                account = {
                    "apiVersion": "v1",
                    "kind": "ServiceAccount",
                    "metadata": {"name": "default"},
                }
                self.create(ACCOUNT, meta["name"], account)
        return made

    def replace(
        self, kind: Kind, namespace: str | None, name: str, manifest: Manifest, user: str
    ) -> Manifest:
        """Store a new state of an object, all but its status."""
        return self._rewrite(kind, namespace, name, lambda _: manifest, user)

    def patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        patch: Any,
        content_type: str,
        user: str,
    ) -> Manifest:
        """Alter an object by a patch, all but its status."""

        def alter(now: Manifest) -> Manifest:
            return patched(copy.deepcopy(now), patch, content_type)

        return self._rewrite(kind, namespace, name, alter, user)

    def delete(
        self, kind: Kind, namespace: str | None, name: str, deletion: Deletion = Deletion()
    ) -> Manifest:
        """Remove an object, at once or by those who have to end something first."""
        with self.store.changed:
            now = self.get(kind, namespace, name)
            uid = now["metadata"]["uid"]
            if deletion.uid not in (None, uid):
                raise ApiError(409, f"the UID in the precondition is not that of {name}: {uid}")
            # The default of batch/v1: the pods of a job stay behind.
            policy = deletion.policy or ("Orphan" if kind is JOB else "Background")
            if policy == "Orphan":
                self._orphan(uid)
            waits = policy == "Foreground" and bool(self.dependents(uid))
            if waits or _must_end_first(kind, now, deletion):
                return self._mark(now, deletion, waits)
            self.store.remove(now)
            return now

    def delete_collection(
        self, selector: Selector, namespace: str | None, deletion: Deletion
    ) -> list[Manifest]:
        """Remove the selected objects."""
        with self.store.changed:
            found = self.select(selector, namespace)
            for item in found:
                meta = item["metadata"]
                self.delete(selector.kind, meta.get("namespace"), meta["name"], deletion)
        return found

    def dependents(self, uid: str) -> list[Manifest]:
        """Return the objects that an object owns."""
        return [
            item
            for item in self.store.everything()
            if any(r["uid"] == uid for r in item["metadata"].get("ownerReferences") or [])
        ]

    def _rewrite(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        alter: Callable[[Manifest], Manifest],
        user: str,
    ) -> Manifest:
        with self.store.changed:
            now = self.get(kind, namespace, name)
            new = alter(now)
            meta, old = _in_place(kind, namespace, new), now["metadata"]
            if meta.setdefault("name", name) != name:
                raise ApiError(400, f"the name of the object ({meta['name']}) is not {name}")
            if meta.get("resourceVersion", old["resourceVersion"]) != old["resourceVersion"]:
                raise ApiError(409, f'{kind.resource} "{name}" has been modified: read it again')
            for field in ("uid", "creationTimestamp", "resourceVersion", "deletionTimestamp"):
                meta.pop(field, None)
                if field in old:
                    meta[field] = old[field]
            new.pop("status", None)
            if "status" in now:
                new["status"] = now["status"]
            self.admission.admit_change(kind, now, new)
            validate(kind, new)
            if new == now:
                return now
            self._policies.check(Review(kind, user, new, now))
            made = self.store.put(kind, new)
            if meta.get("deletionTimestamp") and not meta.get("finalizers") and kind is not POD:
                self.store.remove(made)
            return made

    def _orphan(self, uid: str) -> None:
        def release(item: Manifest) -> None:
            meta = item["metadata"]
            meta["ownerReferences"] = [r for r in meta["ownerReferences"] if r["uid"] != uid]

        for item in self.dependents(uid):
            self.store.update(item, release)

    def _mark(self, now: Manifest, deletion: Deletion, waits: bool) -> Manifest:
        def mark(item: Manifest) -> None:
            meta = item["metadata"]
            meta.setdefault("deletionTimestamp", stamp())
            if item["kind"] == POD.name:
                default = item["spec"]["terminationGracePeriodSeconds"]
                grace = default if deletion.grace is None else deletion.grace
                meta["deletionGracePeriodSeconds"] = grace
            if item["kind"] == NAMESPACE.name:
                item["status"]["phase"] = "Terminating"
            if waits and FOREGROUND not in meta.setdefault("finalizers", []):
                meta["finalizers"].append(FOREGROUND)

        return self.store.update(now, mark) or now


def _must_end_first(kind: Kind, now: Manifest, deletion: Deletion) -> bool:
    if kind is POD and deletion.grace != 0 and now["status"]["phase"] not in FINISHED:
        return True
    return kind is NAMESPACE or bool(now["metadata"].get("finalizers"))


def _in_place(kind: Kind, namespace: str | None, manifest: Manifest) -> Manifest:
    """Check that an object is of the kind and the namespace of its request; return its metadata."""
    said = (
        manifest.setdefault("apiVersion", kind.api_version),
        manifest.setdefault("kind", kind.name),
    )
    if said != (kind.api_version, kind.name):
        raise ApiError(400, f"{said[0]} {said[1]} does not belong to {kind.resource}")
    meta: Manifest = manifest.setdefault("metadata", {})
    if kind.namespaced and meta.setdefault("namespace", namespace) != namespace:
        raise ApiError(
            400, f"the namespace of the object ({meta['namespace']}) is not that of the request"
        )
    if not kind.namespaced:
        meta.pop("namespace", None)
    if meta.get("creationTimestamp", "") is None:
        del meta["creationTimestamp"]
    return meta

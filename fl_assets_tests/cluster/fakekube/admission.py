"""What the API server fills in, and which objects it refuses for what is around them."""

from __future__ import annotations

import base64
import itertools
import random
import uuid

from fl_assets_tests.cluster.fakekube.errors import ApiError, invalid, not_found
from fl_assets_tests.cluster.fakekube.kinds import (
    ACCOUNT,
    JOB,
    NAMESPACE,
    NODE,
    POD,
    SECRET,
    SERVICE,
    Kind,
    Manifest,
)
from fl_assets_tests.cluster.fakekube.pod_security import LABEL as SECURITY_LABEL
from fl_assets_tests.cluster.fakekube.pod_security import violations
from fl_assets_tests.cluster.fakekube.store import Store, stamp

JOB_DEFAULTS = {
    "parallelism": 1,
    "completions": 1,
    "backoffLimit": 6,
    "completionMode": "NonIndexed",
    "suspend": False,
}


class Addresses:
    """Addresses of Services and pods, no two of which are the same on this machine, likely.

    Tests run beside each other, so each cluster begins somewhere else.
    """

    def __init__(self) -> None:
        # Never .0.0 nor .255.255.
        self._next = itertools.count(random.randrange(1, 50_000))

    def service(self) -> str:
        """Return an address in 127.96.0.0/16."""
        return self._in(96)

    def pod(self) -> str:
        """Return an address in 127.97.0.0/16."""
        return self._in(97)

    def _in(self, network: int) -> str:
        high, low = divmod(next(self._next), 256)
        return f"127.{network}.{high}.{low}"


class Admission:
    """Defaults and refusals at creation."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.addresses = Addresses()

    def admit(self, kind: Kind, manifest: Manifest) -> None:
        """Fill in a new object, which the schema has accepted, or refuse it."""
        self._check_owners(kind, manifest)
        {
            POD: self._pod,
            JOB: self._job,
            SERVICE: self._service,
            SECRET: self._secret,
            NAMESPACE: self._namespace,
            NODE: self._node,
        }.get(kind, lambda _: None)(manifest)

    def admit_change(self, kind: Kind, before: Manifest, after: Manifest) -> None:
        """Fill in a new state of an object, or refuse it."""
        name = after["metadata"]["name"]
        if kind is POD and before["spec"] != after.get("spec"):
            raise invalid(kind.title, name, "spec", "Forbidden: a pod's spec is immutable")
        if kind is JOB and before["spec"]["template"] != after["spec"].get("template"):
            raise invalid(kind.title, name, "spec.template", "field is immutable")
        if kind is JOB:
            after["spec"] = JOB_DEFAULTS | after["spec"]
        if kind is SECRET:
            self._secret(after)
        if kind is SERVICE:
            after["spec"].setdefault("clusterIP", before["spec"]["clusterIP"])

    def check_place(self, kind: Kind, namespace: str | None) -> None:
        """Refuse an object of a namespace that is not there or that is going."""
        if not kind.namespaced:
            return
        place = self._store.get(NAMESPACE, None, namespace or "")
        if place is None:
            raise not_found("namespaces", namespace or "")
        if place["metadata"].get("deletionTimestamp"):
            raise ApiError(
                403, f"unable to create new content in namespace {namespace}: terminating"
            )

    def _check_owners(self, kind: Kind, manifest: Manifest) -> None:
        # The real server takes such an object and its garbage collector removes it: here the
        # mistake is named where it is made.
        meta = manifest["metadata"]
        for place, reference in enumerate(meta.get("ownerReferences") or []):
            owner = self._store.by_uid(reference["uid"])
            home = (owner or {"metadata": meta})["metadata"].get("namespace")
            if home is not None and home != meta.get("namespace"):
                field = f"metadata.ownerReferences[{place}]"
                raise invalid(kind.title, meta["name"], field, f"the owner is in namespace {home}")

    def _pod(self, manifest: Manifest) -> None:
        meta, spec = manifest["metadata"], manifest["spec"]
        namespace = meta["namespace"]
        account = spec.setdefault("serviceAccountName", "default")
        forbidden = f'pods "{meta["name"]}" is forbidden: '
        if self._store.get(ACCOUNT, namespace, account) is None:
            raise ApiError(
                403,
                f"{forbidden}error looking up service account {namespace}/{account}: "
                f'serviceaccount "{account}" not found',
            )
        labels = (self._store.get(NAMESPACE, None, namespace) or {})["metadata"].get("labels") or {}
        found = violations(spec) if labels.get(SECURITY_LABEL) == "restricted" else []
        if found:
            why = ", ".join(found)
            raise ApiError(403, f'{forbidden}violates PodSecurity "restricted:latest": {why}')
        spec.setdefault("terminationGracePeriodSeconds", 30)
        manifest["status"] = {"phase": "Pending", "qosClass": "Burstable"}

    def _job(self, manifest: Manifest) -> None:
        meta, spec = manifest["metadata"], manifest["spec"]
        meta["uid"] = str(uuid.uuid4())
        manifest["spec"] = spec = JOB_DEFAULTS | spec
        labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
        for prefix in ("", "batch.kubernetes.io/"):
            labels |= {f"{prefix}controller-uid": meta["uid"], f"{prefix}job-name": meta["name"]}
        own = "batch.kubernetes.io/controller-uid"
        spec["selector"] = {"matchLabels": {own: meta["uid"]}}
        manifest["status"] = {}

    def _service(self, manifest: Manifest) -> None:
        spec = manifest["spec"]
        spec.setdefault("type", "ClusterIP")
        spec.setdefault("clusterIP", self.addresses.service())
        for port in spec.get("ports") or []:
            port.setdefault("targetPort", port["port"])

    def _secret(self, manifest: Manifest) -> None:
        manifest.setdefault("type", "Opaque")
        plain = manifest.pop("stringData", {})
        if plain:
            encoded = {k: base64.b64encode(v.encode()).decode() for k, v in plain.items()}
            manifest["data"] = {**(manifest.get("data") or {}), **encoded}

    def _namespace(self, manifest: Manifest) -> None:
        manifest["status"] = {"phase": "Active"}

    def _node(self, manifest: Manifest) -> None:
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": stamp()}
        manifest["status"] = {"conditions": [ready]}

"""Events, as controllers record them."""

from __future__ import annotations

import uuid

from fl_assets_tests.cluster.fakekube.kinds import EVENT, Manifest
from fl_assets_tests.cluster.fakekube.store import Store, stamp


def record(
    store: Store, about: Manifest, reason: str, message: str, source: str, type_: str = "Warning"
) -> None:
    """Record an event; one with the same words is counted."""
    meta = about["metadata"]
    with store.changed:
        for event in store.of_kind(EVENT, meta["namespace"]):
            same = (event["reason"], event["message"]) == (reason, message)
            if same and event["involvedObject"]["uid"] == meta["uid"]:
                again = {"count": event["count"] + 1, "lastTimestamp": stamp()}
                store.put(EVENT, {**event, **again})
                return
        store.put(
            EVENT,
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {
                    "name": f"{meta['name']}.{uuid.uuid4().hex[:16]}",
                    "namespace": meta["namespace"],
                },
                "involvedObject": {
                    "apiVersion": about["apiVersion"],
                    "kind": about["kind"],
                    "namespace": meta["namespace"],
                    "name": meta["name"],
                    "uid": meta["uid"],
                },
                "reason": reason,
                "message": message,
                "type": type_,
                "count": 1,
                "firstTimestamp": stamp(),
                "lastTimestamp": stamp(),
                "source": {"component": source},
                "reportingComponent": source,
                "reportingInstance": "",
            },
        )

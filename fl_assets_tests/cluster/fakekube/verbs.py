"""Answers to requests that are allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fl_assets_tests.cluster.fakekube.access import Access, Action, Caller
from fl_assets_tests.cluster.fakekube.api import Api
from fl_assets_tests.cluster.fakekube.errors import ApiError
from fl_assets_tests.cluster.fakekube.kinds import ACCESS_REVIEW, POD, Manifest
from fl_assets_tests.cluster.fakekube.kubelet import Kubelet
from fl_assets_tests.cluster.fakekube.store import Change
from fl_assets_tests.cluster.fakekube.targets import Target


@dataclass(frozen=True)
class Answer:
    """A body, or a stream of lines."""

    code: int
    body: Any = None
    stream: Iterator[bytes] | None = None
    content_type: str = "application/json"


class Verbs:
    """Does what a request asks for."""

    def __init__(self, api: Api, access: Access, kubelet: Kubelet) -> None:
        self._api = api
        self._access = access
        self._kubelet = kubelet

    def perform(self, target: Target, caller: Caller) -> Answer:
        """Answer a request that RBAC allows."""
        if target.kind is ACCESS_REVIEW:
            return self._review(target, caller)
        if target.action.resource == "pods/log":
            return self._log(target)
        return {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": lambda asked: self._create(asked, caller.user),
            "update": lambda asked: self._update(asked, caller.user),
            "patch": lambda asked: self._patch(asked, caller.user),
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }[target.action.verb](target)

    def _get(self, target: Target) -> Answer:
        action = target.action
        return Answer(200, self._api.get(target.kind, action.namespace, action.name))

    def _list(self, target: Target) -> Answer:
        with self._api.store.changed:
            items = self._api.select(target.selector, target.action.namespace)
            version = self._api.store.version
        return Answer(200, self._collection(target, items, version))

    def _collection(self, target: Target, items: list[Manifest], version: int) -> Manifest:
        return {
            "apiVersion": target.kind.api_version,
            "kind": f"{target.kind.name}List",
            "metadata": {"resourceVersion": str(version)},
            "items": items,
        }

    def _create(self, target: Target, user: str) -> Answer:
        namespace = target.action.namespace
        if target.kind.namespaced and namespace is None:
            raise ApiError(405, f"{target.kind.resource} are created in a namespace")
        return Answer(201, self._api.create(target.kind, namespace, target.body, user))

    def _update(self, target: Target, user: str) -> Answer:
        action = target.action
        return Answer(
            200, self._api.replace(target.kind, action.namespace, action.name, target.body, user)
        )

    def _patch(self, target: Target, user: str) -> Answer:
        action = target.action
        patched = self._api.patch(
            target.kind, action.namespace, action.name, target.body, target.content_type, user
        )
        return Answer(200, patched)

    def _delete(self, target: Target) -> Answer:
        action = target.action
        gone = self._api.delete(target.kind, action.namespace, action.name, target.deletion)
        if target.kind is POD or gone["metadata"].get("deletionTimestamp"):
            return Answer(200, gone)
        details = {"name": action.name, "kind": target.kind.plural, "uid": gone["metadata"]["uid"]}
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return Answer(200, {**status, "details": details})

    def _delete_collection(self, target: Target) -> Answer:
        namespace = target.action.namespace
        if target.kind.namespaced and namespace is None:
            raise ApiError(405, f"{target.kind.resource} are removed from one namespace at a time")
        gone = self._api.delete_collection(target.selector, namespace, target.deletion)
        return Answer(200, self._collection(target, gone, self._api.store.version))

    def _log(self, target: Target) -> Answer:
        action = target.action
        if action.verb != "get" or target.flag("previous"):
            raise ApiError(400, "there is no previous container, and a log is only read")
        log = self._kubelet.log(action.namespace or "", action.name)
        return Answer(200, stream=log.read(target.view), content_type="text/plain")

    def _watch(self, target: Target) -> Answer:
        store, selector, namespace = self._api.store, target.selector, target.action.namespace
        since = target.number("resourceVersion") or 0
        seconds = target.number("timeoutSeconds") or 300
        with store.changed:
            # Without a version, a watch begins with all that is there.
            first = [] if since else self._api.select(selector, namespace)
            since = since or store.version
        changes = store.changes(since, seconds)

        def stream() -> Iterator[bytes]:
            yield from (_event("ADDED", item) for item in first)
            for change in changes:
                yield b"" if change is None else _told(change, target)

        return Answer(200, stream=stream())

    def _review(self, target: Target, caller: Caller) -> Answer:
        asked = target.body["spec"].get("resourceAttributes") or {}
        sub = asked.get("subresource")
        action = Action(
            verb=asked.get("verb", ""),
            group=asked.get("group", ""),
            resource=asked.get("resource", "") + (f"/{sub}" if sub else ""),
            namespace=asked.get("namespace"),
            name=asked.get("name", ""),
        )
        status = {"allowed": self._access.allows(caller, action)}
        return Answer(201, {**target.body, "status": status})


def _event(type_: str, item: Manifest) -> bytes:
    return json.dumps({"type": type_, "object": item}).encode() + b"\n"


def _told(change: Change, target: Target) -> bytes:
    """Return what a watcher is told of a change, nothing if it is not of what it watches."""
    place = target.action.namespace
    if change.kind is not target.kind or place not in (
        None,
        change.told["metadata"].get("namespace"),
    ):
        return b""
    selector = target.selector
    before = change.before is not None and selector.matches(change.before)
    after = change.after is not None and selector.matches(change.after)
    if before and not after:
        return _event("DELETED", change.told)
    if not after:
        return b""
    return _event("MODIFIED" if before else "ADDED", change.told)

"""What etcd is to Kubernetes: objects, their versions and the history of changes."""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from fl_assets_tests.cluster.fakekube.kinds import BY_NAME, Kind, Manifest

Key = tuple[str, str, str]


def stamp(moment: datetime | None = None) -> str:
    """Return a time, now if None, as Kubernetes writes it."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Change:
    """An object before and after a write; None where it was not there."""

    version: int
    kind: Kind
    before: Manifest | None
    after: Manifest | None
    # What a watcher is told: of a removed object, its last state with the version of the removal.
    told: Manifest


class Store:
    """Objects by kind, namespace and name.

    An object that was given out is never altered, each write makes a new one: readers need neither
    lock nor copy, and must not write into what they got.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.history: list[Change] = []
        self.version = 0
        self.closed = False
        self._objects: dict[Key, Manifest] = {}

    def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """Return an object, None if it is not there."""
        return self._objects.get((kind.name, namespace or "", name))

    def of_kind(self, kind: Kind, namespace: str | None = None) -> list[Manifest]:
        """Return the objects of a kind, of all namespaces if None, by namespace and name."""
        with self.changed:
            found = [
                (key, item)
                for key, item in self._objects.items()
                if key[0] == kind.name and namespace in (None, key[1])
            ]
        return [item for _, item in sorted(found, key=lambda pair: pair[0])]

    def everything(self) -> list[Manifest]:
        """Return all objects."""
        with self.changed:
            return list(self._objects.values())

    def by_uid(self, uid: str) -> Manifest | None:
        """Return the object with a uid."""
        return next((item for item in self.everything() if item["metadata"]["uid"] == uid), None)

    def put(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Write an object and return it as it is now."""
        with self.changed:
            new = copy.deepcopy(manifest)
            meta = new["metadata"]
            meta.setdefault("uid", str(uuid.uuid4()))
            meta.setdefault("creationTimestamp", stamp())
            self.version += 1
            meta["resourceVersion"] = str(self.version)
            key = (kind.name, meta.get("namespace") or "", meta["name"])
            before = self._objects.get(key)
            self._objects[key] = new
            self._tell(Change(self.version, kind, before, new, new))
            return new

    def update(self, manifest: Manifest, alter: Callable[[Manifest], None]) -> Manifest | None:
        """Alter the newest state of an object, if that very object is still there.

        Nothing is written where nothing changes, so a controller may say the same again.
        """
        kind, meta = BY_NAME[manifest["kind"]], manifest["metadata"]
        with self.changed:
            now = self.get(kind, meta.get("namespace"), meta["name"])
            if now is None or now["metadata"]["uid"] != meta["uid"]:
                return None
            new = copy.deepcopy(now)
            alter(new)
            return now if new == now else self.put(kind, new)

    def remove(self, manifest: Manifest) -> None:
        """Remove an object, if that very object is still there."""
        kind, meta = BY_NAME[manifest["kind"]], manifest["metadata"]
        key = (kind.name, meta.get("namespace") or "", meta["name"])
        with self.changed:
            now = self._objects.get(key)
            if now is None or now["metadata"]["uid"] != meta["uid"]:
                return
            del self._objects[key]
            self.version += 1
            told = copy.deepcopy(now)
            told["metadata"]["resourceVersion"] = str(self.version)
            self._tell(Change(self.version, kind, now, None, told))

    def wait(self, seconds: float) -> None:
        """Return at the next change of anything, at the end of the store or when time is out."""
        with self.changed:
            if not self.closed:
                self.changed.wait(seconds)

    def changes(self, since: int, seconds: float) -> Iterator[Change | None]:
        """Yield the changes after a version as they come; None now and then if there are none."""
        place = next((i for i, c in enumerate(self.history) if c.version > since), None)
        if place is None:
            place = len(self.history)
        deadline = datetime.now(UTC).timestamp() + seconds
        while not self.closed and datetime.now(UTC).timestamp() < deadline:
            with self.changed:
                if len(self.history) == place:
                    self.changed.wait(0.5)
                news = self.history[place:]
            place += len(news)
            if not news:
                yield None
            yield from news

    def close(self) -> None:
        """End all waiting."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def _tell(self, change: Change) -> None:
        self.history.append(change)
        self.changed.notify_all()

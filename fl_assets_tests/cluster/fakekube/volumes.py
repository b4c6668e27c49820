"""Volumes as folders, and the paths that take the place of mount paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from fl_assets_tests.cluster.fakekube.kinds import CONFIG_MAP, SECRET, Manifest
from fl_assets_tests.cluster.fakekube.references import MissingError, field, required
from fl_assets_tests.cluster.fakekube.store import Store

# Name, content and mode of a file.
File = tuple[str, bytes, int]


def write_volumes(store: Store, pod: Manifest, folder: Path, token: str) -> dict[str, str]:
    """Write a pod's volumes below a folder and return the path of each mount path.

    Raises:
        MissingError: a Secret, a ConfigMap or a key of one is not there.
    """
    spec = pod["spec"]
    for volume in spec.get("volumes") or []:
        place = folder / volume["name"]
        place.mkdir(parents=True, exist_ok=True)
        try:
            for name, data, mode in _files(store, pod, volume, token):
                path = place / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                path.chmod(mode)
        except MissingError as error:
            raise MissingError(
                f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
            ) from None
    return {
        mount["mountPath"].rstrip("/"): str(folder / mount["name"] / mount.get("subPath", ""))
        for mount in spec["containers"][0].get("volumeMounts") or []
    }


def _files(store: Store, pod: Manifest, volume: Manifest, token: str) -> Iterator[File]:
    namespace = pod["metadata"]["namespace"]
    if "secret" in volume:
        # The one volume whose source is not called by ``name``.
        source = {**volume["secret"], "name": volume["secret"]["secretName"]}
        yield from _keys(required(store, SECRET, namespace, source), source)
    elif "configMap" in volume:
        source = volume["configMap"]
        yield from _keys(required(store, CONFIG_MAP, namespace, source), source)
    elif "downwardAPI" in volume:
        yield from _fields(pod, volume["downwardAPI"])
    elif "projected" in volume:
        for source in volume["projected"].get("sources") or []:
            yield from _projected(store, pod, source, token)
    elif "emptyDir" not in volume:
        raise MissingError("fakekube has no volumes of this kind")


def _projected(store: Store, pod: Manifest, source: Manifest, token: str) -> Iterator[File]:
    namespace = pod["metadata"]["namespace"]
    for key, kind in {"secret": SECRET, "configMap": CONFIG_MAP}.items():
        if key in source:
            yield from _keys(required(store, kind, namespace, source[key]), source[key])
    if "downwardAPI" in source:
        yield from _fields(pod, source["downwardAPI"])
    if "serviceAccountToken" in source:
        yield source["serviceAccountToken"]["path"], token.encode(), 0o600


def _keys(data: dict[str, bytes], source: Manifest) -> Iterator[File]:
    mode = source.get("defaultMode", 0o644)
    if "items" not in source:
        yield from ((key, value, mode) for key, value in data.items())
        return
    for item in source["items"]:
        if item["key"] in data:
            yield item["path"], data[item["key"]], item.get("mode", mode)
        elif not source.get("optional"):
            raise MissingError(f"references non-existent key: {item['key']}")


def _fields(pod: Manifest, source: Manifest) -> Iterator[File]:
    for item in source.get("items") or []:
        yield item["path"], field(pod, item["fieldRef"]["fieldPath"]).encode(), 0o644


class Paths:
    """Puts the paths of a pod's folders in the place of mount paths."""

    def __init__(self, places: dict[str, str], kept: Iterable[str]) -> None:
        self._places = places
        self._kept = tuple(kept)
        # The longest first, for a mount may be below another.
        names = sorted(map(re.escape, places), key=len, reverse=True)
        self._pattern = re.compile(rf"(?<![\w.-])(?:{'|'.join(names)})(?![\w.-])")

    def translate(self, text: str) -> str:
        """Return a text with the pod's paths."""

        def place(found: re.Match[str]) -> str:
            kept = text.startswith(self._kept, found.start())
            return found[0] if kept else self._places[found[0]]

        return self._pattern.sub(place, text)

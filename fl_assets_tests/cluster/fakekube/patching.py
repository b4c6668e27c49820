"""Merge patches."""

from __future__ import annotations

from typing import Any

from fl_assets_tests.cluster.fakekube.errors import ApiError
from fl_assets_tests.cluster.fakekube.kinds import Manifest

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


def patched(manifest: Manifest, patch: Any, content_type: str) -> Manifest:
    """Return an object with a patch applied, neither of which is altered."""
    if content_type not in (MERGE, STRATEGIC):
        raise ApiError(415, f"fakekube takes {MERGE} and {STRATEGIC}, not {content_type}")
    result: Manifest = _merged(manifest, patch, by_name=content_type == STRATEGIC)
    return result


def _merged(now: Any, patch: Any, by_name: bool) -> Any:
    if by_name and _named(now) and _named(patch):
        return _merged_by_name(now, patch)
    if not isinstance(patch, dict):
        return patch
    result = dict(now) if isinstance(now, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        # Directives of a strategic patch on the order of lists.
        elif not key.startswith("$setElementOrder/"):
            result[key] = _merged(result.get(key), value, by_name)
    return result


def _named(items: Any) -> bool:
    return isinstance(items, list) and all(isinstance(i, dict) and "name" in i for i in items)


def _merged_by_name(now: list[Manifest], patch: list[Manifest]) -> list[Manifest]:
    result = {item["name"]: item for item in now}
    for item in patch:
        if item.get("$patch") == "delete":
            result.pop(item["name"], None)
        else:
            result[item["name"]] = _merged(result.get(item["name"], {}), item, by_name=True)
    return list(result.values())

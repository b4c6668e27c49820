"""Which hospitals messages about new objects are about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fl_assets.site.intake import INCOMING
from fl_assets.storage.queue import Notice


def hospitals_of(notices: Iterable[Notice], uris: Mapping[str, str]) -> list[str]:
    """Return the hospitals whose ``incoming/`` has changed, each once.

    Args:
        notices: in any order, any number of times.
        uris: of the hospitals' stores.
    """
    homes = {f"{uri}/{INCOMING}": name for name, uri in uris.items()}
    named = {
        name: None
        for notice in notices
        for bucket, key in notice.objects
        for home, name in homes.items()
        if f"s3://{bucket}/{key}".startswith(home)
    }
    return list(named)

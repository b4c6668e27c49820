"""The one app that is deployed: what is installed, and nothing that a run brings along.

Whoever reaches a SuperLink's Control API can start a run, for open-source Flower asks nobody there
who they are; with Flower's own executors that means code of their choice at every hospital. An app
bundle of this package has no code: it names the installed apps, and executors run those and refuse
every other bundle. What is left to such a caller is what the installed client app does for any
server: to train, and to write it into the egress log.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from flwr.app import UserConfig

from fl_assets.federation.flower_internals.control import build_fab

_RUN = "run"  # the one key that a bundle's config has
_PYPROJECT = f"""
[project]
name = "fl-assets"
version = "1.0.0"

[tool.flwr.app]
publisher = "fl-assets"

[tool.flwr.app.components]
serverapp = "fl_assets.federation.server_app:app"
clientapp = "fl_assets.federation.client_app:app"

[tool.flwr.app.config]
{_RUN} = ""
"""


@dataclass(frozen=True)
class RunOrder:
    """What a run is to do.

    Attributes:
        config: that both apps see.
        hospitals: that take part; the link may have others.
    """

    config: UserConfig
    hospitals: Collection[str]

    def to_wire(self) -> dict[str, str]:
        """Return the order as the config of a run; a bundle may have no keys but its own."""
        order = {"config": self.config, "hospitals": sorted(self.hospitals)}
        return {_RUN: json.dumps(order)}

    @classmethod
    def from_wire(cls, config: UserConfig) -> RunOrder:
        """Undo :meth:`to_wire`."""
        return cls(**json.loads(str(config[_RUN])))


@cache
def bundle() -> bytes:
    """Return the app bundle; the same bytes wherever this version is installed."""
    return build_fab(_PYPROJECT)


def is_ours(bundle_hash: str) -> bool:
    """Tell whether a run was started with this bundle."""
    return bundle_hash == hashlib.sha256(bundle()).hexdigest()

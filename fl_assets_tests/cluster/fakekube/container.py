"""What a container is started with: its environment and its command."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from fl_assets_tests.cluster.fakekube.kinds import CONFIG_MAP, SECRET, Manifest
from fl_assets_tests.cluster.fakekube.references import required, value_of
from fl_assets_tests.cluster.fakekube.store import Store
from fl_assets_tests.cluster.fakekube.volumes import Paths

REFERENCE = re.compile(r"\$(\$?)\(([A-Za-z_][\w.-]*)\)")
PYTHON = re.compile(r"python3?(\.\d+)?")


@dataclass(frozen=True)
class Command:
    """A process to start."""

    arguments: list[str]
    environment: dict[str, str]


def expand(text: str, environment: dict[str, str]) -> str:
    """Return a text with ``$(VAR)`` replaced; ``$$(VAR)`` says ``$(VAR)``."""

    def value(found: re.Match[str]) -> str:
        return found[0][1:] if found[1] else environment.get(found[2], found[0])

    return REFERENCE.sub(value, text)


def environment_of(
    store: Store, pod: Manifest, base: dict[str, str], paths: Paths
) -> dict[str, str]:
    """Return a base environment, which stays as it is, with ``envFrom`` and ``env`` over it.

    Raises:
        MissingError: a Secret, a ConfigMap or a key of one is not there.
    """
    container, namespace = pod["spec"]["containers"][0], pod["metadata"]["namespace"]
    result = dict(base)
    for source in container.get("envFrom") or []:
        kind = SECRET if "secretRef" in source else CONFIG_MAP
        reference = source.get("secretRef") or source["configMapRef"]
        for key, data in required(store, kind, namespace, reference).items():
            result[source.get("prefix", "") + key] = paths.translate(data.decode())
    for item in container.get("env") or []:
        if "valueFrom" in item:
            value = value_of(store, pod, item["valueFrom"])
            if value is not None:
                result[item["name"]] = paths.translate(value)
        else:
            result[item["name"]] = expand(paths.translate(item.get("value", "")), result)
    return result


def command_of(pod: Manifest, environment: dict[str, str], paths: Paths) -> Command:
    """Return the process of a pod's container."""
    container = pod["spec"]["containers"][0]
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    program, *arguments = [expand(paths.translate(word), environment) for word in words] or [""]
    return Command([_program(program), *arguments], environment)


def base_environment(home: Path) -> dict[str, str]:
    """Return the environment that every pod has; programs of the tests' Python come first."""
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home)}


def _program(name: str) -> str:
    if PYTHON.fullmatch(Path(name).name):
        return sys.executable
    beside = Path(sys.executable).parent / Path(name).name
    elsewhere = "/" in name and not Path(name).exists() and beside.exists()
    return str(beside) if elsewhere else name

"""Whether an object may be stored, whoever asks for it.

The schemas come from kubernetes-validate; the rest is what Kubernetes checks beyond its schemas.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]

from fl_assets_tests.cluster.fakekube.errors import invalid
from fl_assets_tests.cluster.fakekube.kinds import (
    CONFIG_MAP,
    JOB,
    NAMESPACE,
    POD,
    SECRET,
    SERVICE,
    Kind,
    Manifest,
)

VERSION = "1.35"
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SERVICE_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
LABEL_KEY = re.compile(
    r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
)
LARGEST_DATA = 1024 * 1024

# A field and what is wrong with it.
Problem = tuple[str, str]


def validate(kind: Kind, manifest: Manifest) -> None:
    """Refuse an object with 422, naming the first field that is wrong."""
    name = manifest["metadata"].get("name", "")
    for field, why in _problems(kind, manifest):
        raise invalid(kind.title, name, field, why)


def _problems(kind: Kind, manifest: Manifest) -> Iterator[Problem]:
    yield from _schema(manifest)
    yield from _name(kind, manifest["metadata"]["name"])
    yield from _labels("metadata.labels", manifest["metadata"])
    if kind is POD:
        yield from _pod("spec", manifest["spec"])
    if kind is JOB:
        yield from _job(manifest["spec"])
    if kind in (SECRET, CONFIG_MAP):
        yield from _data(kind, manifest)


def _schema(manifest: Manifest) -> Iterator[Problem]:
    problem = _schema_problem(json.dumps(manifest))
    if problem:
        yield problem


# Reading the schemas takes longer than the check, and all clusters begin with the same objects.
@functools.cache
def _schema_problem(text: str) -> Problem | None:
    try:
        kubernetes_validate.validate(json.loads(text), VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return _path(error.absolute_path) or "(root)", error.message
    return None


def _path(parts: Any) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).removeprefix(".")


def _name(kind: Kind, name: str) -> Iterator[Problem]:
    if kind.group == "rbac.authorization.k8s.io":
        return
    pattern, longest = SUBDOMAIN, 253
    if kind is SERVICE:
        pattern, longest = SERVICE_LABEL, 63
    elif kind in (NAMESPACE, JOB):
        pattern, longest = LABEL, 63
    if not pattern.fullmatch(name) or len(name) > longest:
        yield (
            "metadata.name",
            f'Invalid value: "{name}": must match {pattern.pattern} and have at most {longest} '
            "characters",
        )


def _labels(field: str, meta: Manifest) -> Iterator[Problem]:
    for key, value in (meta.get("labels") or {}).items():
        if not LABEL_KEY.fullmatch(key) or len(key.split("/")[-1]) > 63:
            yield field, f'Invalid value: "{key}": not a qualified name'
        if not LABEL_VALUE.fullmatch(value) or len(value) > 63:
            yield (
                field,
                f'Invalid value: "{value}" of {key}: not a label value of at most 63 characters',
            )


def _job(spec: Manifest) -> Iterator[Problem]:
    template = spec["template"]
    if template["spec"].get("restartPolicy") not in ("Never", "OnFailure"):
        value = template["spec"].get("restartPolicy", "Always")
        supported = 'supported values: "OnFailure", "Never"'
        yield "spec.template.spec.restartPolicy", f'Unsupported value: "{value}": {supported}'
    if spec.get("completionMode") == "Indexed":
        yield "spec", "fakekube has no indexed jobs"
    for place, rule in enumerate((spec.get("podFailurePolicy") or {}).get("rules") or []):
        if rule["action"] != "FailJob" or (rule.get("onExitCodes") or {}).get("operator") != "In":
            field = f"spec.podFailurePolicy.rules[{place}]"
            yield field, "fakekube knows FailJob of exit codes in a list, and no other rule"
    yield from _labels("spec.template.metadata.labels", template.get("metadata") or {})
    yield from _pod("spec.template.spec", template["spec"])


def _pod(at: str, spec: Manifest) -> Iterator[Problem]:
    if len(spec["containers"]) != 1 or spec.get("initContainers"):
        yield f"{at}.containers", "fakekube runs exactly one container a pod and no initial one"
    if spec.get("restartPolicy") != "Never":
        yield f"{at}.restartPolicy", "fakekube never restarts a container: say Never"
    for name in ("affinity", "topologySpreadConstraints"):
        if spec.get(name):
            yield f"{at}.{name}", "fakekube places pods by nodeSelector and tolerations alone"
    container = spec["containers"][0]
    if not LABEL.fullmatch(container["name"]):
        yield f"{at}.containers[0].name", f'Invalid value: "{container["name"]}"'
    if not container.get("image"):
        yield f"{at}.containers[0].image", "Required value"
    yield from _volumes(at, spec)


def _volumes(at: str, spec: Manifest) -> Iterator[Problem]:
    volumes = [volume["name"] for volume in spec.get("volumes") or []]
    for place, name in enumerate(volumes):
        if name in volumes[:place]:
            yield f"{at}.volumes[{place}].name", f'Duplicate value: "{name}"'
    mounts = spec["containers"][0].get("volumeMounts") or []
    for place, mount in enumerate(mounts):
        field = f"{at}.containers[0].volumeMounts[{place}]"
        if mount["name"] not in volumes:
            yield f"{field}.name", f'Not found: "{mount["name"]}"'
        if mount["mountPath"] in [other["mountPath"] for other in mounts[:place]]:
            yield f"{field}.mountPath", f'Invalid value: "{mount["mountPath"]}": must be unique'


def _data(kind: Kind, manifest: Manifest) -> Iterator[Problem]:
    data = manifest.get("data") or {}
    if sum(len(value) for value in data.values()) > LARGEST_DATA:
        yield "data", f"Too long: may not be more than {LARGEST_DATA} bytes"
    if kind is SECRET:
        for key, value in data.items():
            try:
                base64.b64decode(value, validate=True)
            except binascii.Error:
                # The value is a secret.
                yield f"data[{key}]", "Invalid value: not base64"

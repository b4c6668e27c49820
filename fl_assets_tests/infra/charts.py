"""Our values and those of the charts that they are for."""

import json
import os
from collections.abc import Iterator
from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from deploy.values import charts, filled_in
from fl_assets_tests.infra import given
from fl_assets_tests.infra.tool import ROOT

THIRD_PARTY = [chart["name"] for chart in charts() if "repository" in chart]

KINDS = {
    "podSecurityContext": "PodSecurityContext",
    "containerSecurityContext": "SecurityContext",
    "resources": "ResourceRequirements",
}
"""Values that are objects of Kubernetes, whose keys a chart's own values need not show."""

OPEN = {*KINDS, "securityContext", "nodeSelector", "extraArgs", "grafana.ini"}

_SHOWN = {
    "metrics-server": {
        "image": {"repository": "registry.k8s.io/metrics-server/metrics-server", "tag": ""},
        "replicas": 1,
        "podDisruptionBudget": {"enabled": False, "minAvailable": None, "maxUnavailable": None},
        "service": {"type": "ClusterIP", "port": 443},
        "nodeSelector": {},
        "resources": {},
    }
}
"""Of a chart whose values are nowhere at hand, those that may be of use here."""

_SCHEMAS = Path(os.environ.get("FLA_HELM_SCHEMAS", ROOT.parent / "shared/helm-schemas"))
_DEFINITIONS = (
    "https://raw.githubusercontent.com/yannh/kubernetes-json-schema/master/v1.19.0/"
    "_definitions.json"
)
_KUBERNETES = (
    Path(kubernetes_validate.__file__).parent
    / "kubernetes-json-schema/v1.33.0-local/_definitions.json"
)


def ours(chart: str) -> dict[str, Any]:
    """Our values of a chart, as they are deployed."""
    return yaml.safe_load(filled_in(chart, given.outputs(), given.TAG))


def defaults(chart: str) -> dict[str, Any]:
    """The chart's own; the test is skipped where they are not at hand."""
    if chart in _SHOWN:
        return deepcopy(_SHOWN[chart])
    values = yaml.safe_load(schema_file(f"{chart}.values.yaml").read_text())
    if chart == "kube-prometheus-stack":
        # Its values show only what it changes of the chart that it takes in.
        grafana = yaml.safe_load(schema_file("grafana.values.yaml").read_text())
        values["grafana"] = merge(grafana, values["grafana"])
        values["kube-state-metrics"]["nodeSelector"] = {}
    return values


def schema_file(name: str) -> Path:
    path = _SCHEMAS / name
    if not path.is_file():
        pytest.skip(f"{name} is absent: set FLA_HELM_SCHEMAS to a folder with the charts' values")
    return path


def merged(chart: str) -> dict[str, Any]:
    """What the chart's templates see."""
    return merge(defaults(chart), ours(chart))


def merge(below: Any, above: Any) -> Any:
    """Merge as helm does: maps by key, anything else is replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return deepcopy(above)
    both = {key: merge(below[key], above[key]) for key in below.keys() & above.keys()}
    return {**below, **above, **both}


def validator(schema: dict[str, Any]) -> Validator:
    """One that knows the definitions of Kubernetes, which the charts' schemas refer to by URL."""
    kinds = json.loads(_KUBERNETES.read_text())["$defs"]
    resource = Resource.from_contents(
        # Their own references have the newer word.
        {"definitions": kinds, "$defs": kinds},
        default_specification=DRAFT7,
    )
    return Draft202012Validator(schema, registry=Registry().with_resource(_DEFINITIONS, resource))


def unknown_keys(values: Any, known: Any, at: str = "") -> list[str]:
    """Keys of our values that the chart's own do not have, where those say what there is.

    What the chart shows of a list's items is taken together.
    """
    if isinstance(values, list) and isinstance(known, list):
        shown: Any = reduce(merge, (item for item in known if isinstance(item, dict)), {})
        return [
            name
            for number, item in enumerate(values)
            for name in unknown_keys(item, shown, f"{at}{number}.")
        ]
    if not (isinstance(values, dict) and isinstance(known, dict) and known):
        return []
    return [
        *(f"{at}{key}" for key in values if key not in known),
        *(
            name
            for key, value in values.items()
            if key in known and key not in OPEN
            for name in unknown_keys(value, known[key], f"{at}{key}.")
        ),
    ]


def closed(schema: Any) -> Any:
    """A schema under which an object has the properties that it lists, unless it says otherwise."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: closed(value) for key, value in schema.items()}
    if isinstance(parts.get("properties"), dict):
        return {"additionalProperties": False, **parts}
    return parts


def switched_on(values: Any) -> Any:
    """Values without those of what is switched off."""
    if isinstance(values, list):
        return [switched_on(item) for item in values]
    if not isinstance(values, dict):
        return values
    if values.get("enabled") is False:
        return {}
    return {key: switched_on(value) for key, value in values.items()}


def kubernetes_objects(values: Any) -> Iterator[tuple[str, Any]]:
    """Yield the kind and the text of every security context and resource in our values."""
    if isinstance(values, list):
        for item in values:
            yield from kubernetes_objects(item)
    if isinstance(values, dict):
        for key, value in values.items():
            if key in KINDS and value:
                yield KINDS[key], value
            else:
                yield from kubernetes_objects(value)


def kubernetes_schema(kind: str) -> dict[str, Any]:
    return {"$ref": f"{_DEFINITIONS}#/definitions/io.k8s.api.core.v1.{kind}"}

"""ValidatingAdmissionPolicies: their CEL expressions, evaluated by a library.

As in Kubernetes an expression that cannot be evaluated refuses the request. A parameter is a
ConfigMap by name; namespaces are selected by labels that must be equal.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cel

from fl_assets_tests.cluster.fakekube.errors import ApiError
from fl_assets_tests.cluster.fakekube.kinds import (
    CONFIG_MAP,
    NAMESPACE,
    POLICY,
    POLICY_BINDING,
    Kind,
    Manifest,
    labels_of,
)
from fl_assets_tests.cluster.fakekube.store import Store


@dataclass(frozen=True)
class Review:
    """A change that is asked for; ``before`` is None for a new object."""

    kind: Kind
    user: str
    after: Manifest
    before: Manifest | None = None

    @property
    def operation(self) -> str:
        return "CREATE" if self.before is None else "UPDATE"


class Policies:
    """The policies that are stored, with their bindings."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, review: Review) -> None:
        """Refuse with 422 what a policy does not let in."""
        namespace = review.after["metadata"].get("namespace")
        place = self._store.get(NAMESPACE, None, namespace) if namespace else None
        for binding in self._store.of_kind(POLICY_BINDING):
            spec = binding["spec"]
            policy = self._store.get(POLICY, None, spec["policyName"])
            if policy and _is_for(policy["spec"], review) and _is_in(spec, place):
                parameter = self._parameter(spec, namespace)
                given = _given(review, place, parameter)
                for why in _refusals(policy["spec"], given, known=parameter is not None):
                    names = (policy["metadata"]["name"], binding["metadata"]["name"])
                    raise _denied(review, *names, why)

    def _parameter(self, binding: Manifest, namespace: str | None) -> Manifest | None:
        name = binding.get("paramRef", {}).get("name", "")
        return self._store.get(CONFIG_MAP, namespace, name)


def _is_for(policy: Manifest, review: Review) -> bool:
    return any(
        review.kind.group in rule["apiGroups"]
        and review.kind.plural in rule["resources"]
        and review.operation in rule["operations"]
        for rule in policy["matchConstraints"]["resourceRules"]
    )


def _is_in(binding: Manifest, place: Manifest | None) -> bool:
    wanted = binding["matchResources"]["namespaceSelector"]["matchLabels"]
    return place is not None and wanted.items() <= labels_of(place).items()


def _given(review: Review, place: Manifest | None, parameter: Manifest | None) -> dict[str, Any]:
    return {
        "object": review.after,
        "oldObject": review.before,
        "params": parameter,
        "namespaceObject": place,
        "request": {
            "operation": review.operation,
            "resource": {"group": review.kind.group, "resource": review.kind.plural},
            "userInfo": {"username": review.user},
        },
    }


def _refusals(policy: Manifest, given: dict[str, Any], *, known: bool) -> Iterator[str]:
    conditions = policy.get("matchConditions") or []
    if not all(_evaluated(condition["expression"], given) for condition in conditions):
        return
    if not known:
        yield "no params found for policy binding with `Deny` parameterNotFoundAction"
        return
    variables: dict[str, Any] = {}
    for variable in policy.get("variables") or []:
        found = _evaluated(variable["expression"], {**given, "variables": variables})
        # In Kubernetes it is evaluated when it is used, and nobody sees this failure before.
        if not isinstance(found, Exception):
            variables[variable["name"]] = found
    given = {**given, "variables": variables}
    for validation in policy["validations"]:
        found = _evaluated(validation["expression"], given)
        if found is not True:
            words = _evaluated(validation.get("messageExpression", "''"), given)
            why = words if isinstance(words, str) and words else validation["message"]
            yield f"{why} ({found})" if isinstance(found, Exception) else why


def _evaluated(expression: str, given: dict[str, Any]) -> Any:
    """Return the value of an expression, or why it has none."""
    try:
        return _compiled(expression).execute(given)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        return error


@functools.cache
def _compiled(expression: str) -> Any:
    return cel.compile(expression)


def _denied(review: Review, policy: str, binding: str, why: str) -> ApiError:
    name = review.after["metadata"]["name"]
    what = f'{review.kind.resource} "{name}"'
    who = f"ValidatingAdmissionPolicy '{policy}' with binding '{binding}'"
    return ApiError(422, f"{what} is forbidden: {who} denied request: {why}")

"""Who asks, and what they may: bearer tokens of accounts, and RBAC."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from fl_assets_tests.cluster.fakekube.errors import ApiError
from fl_assets_tests.cluster.fakekube.kinds import (
    ACCESS_REVIEW,
    ACCOUNT,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    ROLE,
    ROLE_BINDING,
    Manifest,
)
from fl_assets_tests.cluster.fakekube.store import Store


@dataclass(frozen=True)
class Caller:
    """A ServiceAccount; the administrator, whose name is ``admin``, has no namespace."""

    namespace: str
    name: str

    @property
    def user(self) -> str:
        """The name that RBAC knows."""
        return (
            f"system:serviceaccount:{self.namespace}:{self.name}" if self.namespace else self.name
        )

    @property
    def groups(self) -> set[str]:
        """The groups that the caller is in."""
        if not self.namespace:
            return {"system:masters", "system:authenticated"}
        accounts = "system:serviceaccounts"
        return {"system:authenticated", accounts, f"{accounts}:{self.namespace}"}


ADMIN = Caller("", "admin")


@dataclass(frozen=True)
class Action:
    """What is asked for: ``resource`` includes a subresource, such as ``pods/log``."""

    verb: str
    group: str
    resource: str
    namespace: str | None
    name: str = ""


class Access:
    """Tokens and the evaluation of roles, deny by default."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.admin_token = secrets.token_urlsafe()
        self._callers = {self.admin_token: ADMIN}

    def token_of(self, namespace: str, account: str) -> str:
        """Return the token of an account, always the same one."""
        wanted = Caller(namespace, account)
        known = next((token for token, caller in self._callers.items() if caller == wanted), None)
        token = known or secrets.token_urlsafe()
        self._callers[token] = wanted
        return token

    def caller(self, authorization: str | None) -> Caller:
        """Return who has sent a request; 401 for a token of nobody or of a missing account."""
        token = (authorization or "").removeprefix("Bearer ")
        caller = self._callers.get(token)
        if caller is None or (
            caller != ADMIN and not self._store.get(ACCOUNT, caller.namespace, caller.name)
        ):
            raise ApiError(401, "Unauthorized")
        return caller

    def check(self, caller: Caller, action: Action) -> None:
        """Refuse with 403 what no role allows."""
        if self.allows(caller, action):
            return
        resource = action.resource.split("/")[0] + (f".{action.group}" if action.group else "")
        subject = f'{resource} "{action.name}"' if action.name else resource
        place = (
            f'in the namespace "{action.namespace}"' if action.namespace else "at the cluster scope"
        )
        raise ApiError(
            403,
            f'{subject} is forbidden: User "{caller.user}" cannot {action.verb} resource '
            f'"{action.resource}" in API group "{action.group}" {place}',
        )

    def allows(self, caller: Caller, action: Action) -> bool:
        """Tell whether a role of the caller has a rule for an action."""
        if caller == ADMIN or action.resource == ACCESS_REVIEW.plural:
            return True
        return any(_covers(rule, action) for rule in self._rules(caller, action.namespace))

    def _rules(self, caller: Caller, namespace: str | None) -> Iterator[Manifest]:
        bindings = self._store.of_kind(CLUSTER_ROLE_BINDING)
        if namespace:
            bindings = bindings + self._store.of_kind(ROLE_BINDING, namespace)
        for binding in bindings:
            if any(_is(caller, subject, binding) for subject in binding.get("subjects") or []):
                reference = binding["roleRef"]
                kind = ROLE if reference["kind"] == "Role" else CLUSTER_ROLE
                role = self._store.get(kind, namespace if kind is ROLE else None, reference["name"])
                yield from (role or {}).get("rules") or []


def _is(caller: Caller, subject: Manifest, binding: Manifest) -> bool:
    if subject["kind"] == "ServiceAccount":
        return Caller(subject.get("namespace", ""), subject["name"]) == caller
    if subject["kind"] == "Group":
        return subject["name"] in caller.groups
    return bool(subject["name"] == caller.user)


def _covers(rule: Manifest, action: Action) -> bool:
    resources = {action.resource, "*"}
    if "/" in action.resource:
        resources.add("*/" + action.resource.split("/")[1])
    names = rule.get("resourceNames")
    return bool(
        {action.verb, "*"} & set(rule["verbs"])
        and {action.group, "*"} & set(rule.get("apiGroups") or [])
        and resources & set(rule.get("resources") or [])
        and (not names or action.name in names)
    )

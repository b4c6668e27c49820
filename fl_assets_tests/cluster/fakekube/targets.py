"""What an HTTP request asks for."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from fl_assets_tests.cluster.fakekube.access import Action
from fl_assets_tests.cluster.fakekube.api import Deletion
from fl_assets_tests.cluster.fakekube.errors import ApiError
from fl_assets_tests.cluster.fakekube.kinds import BY_RESOURCE, Kind, Manifest
from fl_assets_tests.cluster.fakekube.logs import View
from fl_assets_tests.cluster.fakekube.selection import Selector

# Which are only read: the controllers write the status.
SUBRESOURCES = {"pods/log", "pods/status", "jobs/status"}
VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class Target:
    """A request that was understood."""

    kind: Kind
    action: Action
    query: dict[str, str]
    body: Manifest
    content_type: str

    def flag(self, name: str) -> bool:
        """Return a boolean of the query; clients write ``True``, ``true`` and ``1``."""
        return self.query.get(name, "").lower() in ("true", "1", "t")

    def number(self, name: str) -> int | None:
        """Return a number of the query, None if it is not there."""
        return int(self.query[name]) if self.query.get(name) else None

    @property
    def selector(self) -> Selector:
        """What a collection is narrowed to."""
        fields = self.query.get("fieldSelector", "")
        return Selector(self.kind, fields, self.query.get("labelSelector", ""))

    @property
    def deletion(self) -> Deletion:
        """Options of a removal, in the body or in the query."""
        grace = self.body.get("gracePeriodSeconds", self.number("gracePeriodSeconds"))
        policy = self.body.get("propagationPolicy") or self.query.get("propagationPolicy")
        return Deletion(policy, grace, (self.body.get("preconditions") or {}).get("uid"))

    @property
    def view(self) -> View:
        """Which part of a log is asked for."""
        return View(
            follow=self.flag("follow"),
            timestamps=self.flag("timestamps"),
            tail_lines=self.number("tailLines"),
            since_seconds=self.number("sinceSeconds"),
        )


def parse(method: str, url: str, body: Manifest, content_type: str) -> Target:
    """Understand a request.

    Raises:
        ApiError: 404 for a path that is not served, 405 for a verb that it does not have.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    group, rest = _group(parts.path.strip("/").split("/"))
    namespace = None
    # A namespace itself is at namespaces/NAME, what is in it at namespaces/NAME/PLURAL.
    if len(rest) > 2 and rest[0] == "namespaces" and (group, rest[2]) in BY_RESOURCE:
        namespace, rest = rest[1], rest[2:]
    plural, name, sub = [*rest, "", ""][:3] if rest else ("", "", "")
    kind = BY_RESOURCE.get((group, plural))
    resource = f"{plural}/{sub}" if sub else plural
    if kind is None or len(rest) > 3 or (sub and resource not in SUBRESOURCES):
        raise ApiError(404, f"the server could not find the requested resource: {parts.path}")
    if "dryRun" in query or body.get("dryRun"):
        raise ApiError(400, "fakekube has no dry run")
    target = Target(kind, Action("", group, resource, namespace, name), query, body, content_type)
    verb = _verb(method, target)
    # A list or watch of one name counts for rules with resourceNames.
    named = name or query.get("fieldSelector", "").removeprefix("metadata.name=")
    single = named if "=" not in named and "," not in named else ""
    action = Action(verb, group, resource, namespace, name if verb == "create" else single)
    return Target(kind, action, query, body, content_type)


def _group(parts: list[str]) -> tuple[str, list[str]]:
    if parts[:2] == ["api", "v1"]:
        return "", parts[2:]
    if parts[0] == "apis" and parts[2:3] == ["v1"]:
        return parts[1], parts[3:]
    raise ApiError(404, f"the server could not find the requested resource: /{'/'.join(parts)}")


def _verb(method: str, target: Target) -> str:
    verb, name = VERBS[method], target.action.name
    if verb == "get" and not name:
        return "watch" if target.flag("watch") else "list"
    if verb == "delete" and not name:
        return "deletecollection"
    if verb == "get" or ("/" not in target.action.resource and bool(name) != (verb == "create")):
        return verb
    raise ApiError(405, f"{method} is not allowed on {target.action.resource}")

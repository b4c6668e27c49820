"""Checks of the Kubernetes cluster that trainings run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from fl_assets.cluster.api import ClusterApiError
from fl_assets.cluster.client import connect
from fl_assets.config import read_config
from fl_assets.doctor.checks import Check, NotCheckedError, ProblemError
from fl_assets.doctor.rights import (
    IN_HOSPITAL,
    IN_TRAINING,
    REFUSED,
    REFUSED_IN_HOSPITAL,
    Rights,
)
from fl_assets.settings import Settings

if TYPE_CHECKING:
    from fl_assets.cluster.inspection import Inspection

Seen = TypeVar("Seen")

CONSORTIUM, ENVIRONMENT = "consortium", "fla-environment"
"""ConfigMaps of every namespace."""

_FORBIDDEN = 403
_CHART = "Install or upgrade the chart fl-consortium (`make deploy`) with this consortium.yaml."


def cluster_checks(settings: Settings) -> Iterator[Check]:
    """Return what the runtime ``kubernetes`` needs."""
    seen = _Cluster(settings)
    yield Check(
        "images",
        partial(_images, settings),
        "Set FLA_SITE_IMAGE and FLA_SERVER_IMAGE to images with the tag of a commit.",
    )
    yield Check(
        "Kubernetes API",
        seen.answers,
        "Run this in a pod of the cluster, or set KUBECONFIG (`aws eks update-kubeconfig`) and "
        "renew the login.",
    )
    cluster = settings.whole_consortium.cluster
    places = {None: cluster.namespace} | {
        name: cluster.namespace_of(name) for name in settings.whole_consortium.hospital_names
    }
    for hospital, namespace in places.items():
        accounts = ("coordinator", "server") if hospital is None else ("site",)
        allowed, refused = (
            (IN_TRAINING, REFUSED) if hospital is None else (IN_HOSPITAL, REFUSED_IN_HOSPITAL)
        )
        yield Check(f"namespace {namespace}", partial(seen.is_set_up, namespace, accounts), _CHART)
        yield Check(
            f"consortium file in {namespace}", partial(seen.has_this_file, namespace), _CHART
        )
        yield Check(
            f"coordinator's rights in {namespace}",
            partial(seen.gives_rights, namespace, allowed, refused),
            "Let the Role `coordinator` of this namespace be what the chart fl-consortium has, "
            "and take away what is broader.",
        )
    yield Check(
        "nodes for trainings",
        seen.has_nodes,
        "Correct `node_selector` in consortium.yaml's `cluster`, or the labels of the node pool.",
    )


class _Cluster:
    """The cluster, connected to by the first check; the others ask no server that is away."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reached: Inspection | None = None

    def answers(self) -> str:
        from fl_assets.cluster.inspection import Inspection

        inspection = Inspection(connect())
        # Whoever is known may ask this, and nobody else.
        inspection.may("list", "pods", self._settings.whole_consortium.cluster.namespace)
        self._reached = inspection
        return "it answers, and knows who asks"

    @property
    def _inspection(self) -> Inspection:
        if self._reached is None:
            raise NotCheckedError("the Kubernetes API does not answer")
        return self._reached

    def is_set_up(self, namespace: str, accounts: tuple[str, ...]) -> str:
        inspection = self._inspection
        if not _visible(inspection.has_namespace, namespace):
            raise ProblemError(f"there is no namespace {namespace}")
        missing = [
            f"service account {name}"
            for name in accounts
            if not _visible(inspection.has_account, namespace, name)
        ]
        missing += [
            f"ConfigMap {name}"
            for name in (CONSORTIUM, ENVIRONMENT)
            if _visible(inspection.config_map, namespace, name) is None
        ]
        if missing:
            raise ProblemError(f"namespace {namespace} has no {' and no '.join(missing)}")
        return f"there, with {', '.join((*accounts, CONSORTIUM, ENVIRONMENT))}"

    def has_this_file(self, namespace: str) -> str:
        file = self._settings.consortium_file
        found = _visible(self._inspection.config_map, namespace, CONSORTIUM)
        text = (found or {}).get("consortium.yaml")
        if text is None:
            raise ProblemError(f"ConfigMap {CONSORTIUM} there has no consortium.yaml")
        differing = _differences(yaml.safe_load(text), yaml.safe_load(read_config(file)))
        if differing:
            raise ProblemError(f"it differs from {file} in {', '.join(differing)}")
        return f"as {file}"

    def gives_rights(self, namespace: str, allowed: Rights, refused: Rights) -> str:
        if self._inspection.may("*", "*/*", namespace):
            raise NotCheckedError(
                "this account may do everything here and so shows nothing of the coordinator's: "
                "run this in the coordinator's pod, as `make verify-remote` does"
            )
        wrong = [
            f"may not {_said(right)}"
            for right in sorted(allowed)
            if not self._may(right, namespace)
        ]
        wrong += [f"may {_said(right)}" for right in sorted(refused) if self._may(right, namespace)]
        if wrong:
            raise ProblemError(f"this account {', '.join(wrong)}")
        return f"all {len(allowed)} granted, and {len(refused)} refused as they must be"

    def _may(self, right: tuple[str, str], namespace: str) -> bool:
        return self._inspection.may(*right, namespace)

    def has_nodes(self) -> str:
        wanted = self._settings.whole_consortium.cluster.node_selector
        shown = ", ".join(f"{name}={value}" for name, value in wanted.items())
        if not wanted:
            return "any node will do"
        number = _visible(self._inspection.nodes, wanted)
        if not number:
            raise NotCheckedError(
                f"no node has {shown} now: right between trainings, if the pool begins at zero"
            )
        return f"there are {number} with {shown}"


def _visible(look: Callable[..., Seen], *of: Any) -> Seen:
    try:
        return look(*of)
    except ClusterApiError as error:
        if error.status != _FORBIDDEN:
            raise
        raise NotCheckedError(
            "this account may not look, which is right for a pod: run this as who deploys"
        ) from error


def _differences(there: Any, here: Any) -> list[str]:
    """Return the keys at the top of two consortium files whose values differ."""
    if not isinstance(there, dict) or not isinstance(here, dict):
        return ["its whole text"]
    return sorted(key for key in {*there, *here} if there.get(key) != here.get(key))


def _said(right: tuple[str, str]) -> str:
    verb, resource = right
    return f"{verb} {resource.rpartition('/')[2].replace(':', '/')}"


def _images(settings: Settings) -> str:
    images = {"FLA_SITE_IMAGE": settings.site_image, "FLA_SERVER_IMAGE": settings.server_image}
    wrong = []
    for variable, image in images.items():
        tag = _tag(image or "")
        if image is None:
            wrong.append(f"{variable} is not set")
        elif tag in ("", "latest"):
            wrong.append(f"{variable} is {image}, which names no fixed version")
    if wrong:
        raise ProblemError("; ".join(wrong))
    return ", ".join(map(str, images.values()))


def _tag(image: str) -> str:
    """Return tag or digest of an image; a colon before the last slash is that of a port."""
    return image.rpartition("/")[2].replace("@", ":").partition(":")[2]

"""What there is in a cluster and what may be asked of it; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from fl_assets.cluster.api import ClusterApiError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Answer = TypeVar("Answer")

_SECONDS = 10  # for an answer; who looks wants to know soon that there is none


class Inspection:
    """Looks at a cluster with the rights of whoever calls.

    Args:
        client: see :func:`fl_assets.cluster.client.connect`.
    """

    def __init__(self, client: ApiClient) -> None:
        from kubernetes.client import AuthorizationV1Api, CoreV1Api

        self._core, self._reviews = CoreV1Api(client), AuthorizationV1Api(client)

    def has_namespace(self, name: str) -> bool:
        """Tell whether there is a namespace.

        Raises:
            ClusterApiError: it was refused.
        """
        return self._is_there(
            f"show namespace {name}",
            lambda: self._core.read_namespace(name, _request_timeout=_SECONDS),
        )

    def has_account(self, namespace: str, name: str) -> bool:
        """Tell whether there is a service account.

        Raises:
            ClusterApiError: it was refused.
        """
        return self._is_there(
            f"show service account {name} in namespace {namespace}",
            lambda: self._core.read_namespaced_service_account(
                name, namespace, _request_timeout=_SECONDS
            ),
        )

    def config_map(self, namespace: str, name: str) -> dict[str, str] | None:
        """Return what a ConfigMap holds, by key; None if there is none of that name.

        Raises:
            ClusterApiError: it was refused.
        """
        try:
            found = _asked(
                f"show ConfigMap {name} in namespace {namespace}",
                lambda: self._core.read_namespaced_config_map(
                    name, namespace, _request_timeout=_SECONDS
                ),
            )
        except ClusterApiError as error:
            if error.status == 404:
                return None
            raise
        return dict(found.data or {})

    def nodes(self, labels: Mapping[str, str]) -> int:
        """Return how many nodes have these labels at present.

        Raises:
            ClusterApiError: it was refused.
        """
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        found = _asked(
            "list nodes",
            lambda: self._core.list_node(label_selector=selector, _request_timeout=_SECONDS),
        )
        return len(found.items)

    def may(self, verb: str, resource: str, namespace: str) -> bool:
        """Tell whether this process' account may do something (SelfSubjectAccessReview).

        Args:
            verb: of the API.
            resource: ``group/resource`` or, of the core group, ``resource``; either may be
                followed by ``:subresource``.
            namespace: where.

        Raises:
            ClusterApiError: it was refused.
        """
        from kubernetes.client import (
            V1ResourceAttributes,
            V1SelfSubjectAccessReview,
            V1SelfSubjectAccessReviewSpec,
        )

        whole, _, part = resource.partition(":")
        *group, plural = whole.split("/")
        asked = V1ResourceAttributes(
            namespace=namespace,
            verb=verb,
            group=group[0] if group else "",
            resource=plural,
            subresource=part or None,
        )
        review = V1SelfSubjectAccessReview(
            spec=V1SelfSubjectAccessReviewSpec(resource_attributes=asked)
        )
        found = _asked(
            "tell what this account may do",
            lambda: self._reviews.create_self_subject_access_review(
                review, _request_timeout=_SECONDS
            ),
        )
        return bool(found.status.allowed)

    @staticmethod
    def _is_there(what: str, call: Callable[[], object]) -> bool:
        try:
            _asked(what, call)
        except ClusterApiError as error:
            if error.status == 404:
                return False
            raise
        return True


def _asked(what: str, call: Callable[[], Answer]) -> Answer:
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        return call()
    except ApiException as error:
        raise ClusterApiError(what, error.status, str(error.reason)) from error
    except HTTPError as error:
        # Its class alone: the text holds the address of every attempt.
        raise ClusterApiError(what, None, type(error).__name__) from error

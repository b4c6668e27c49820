"""The calls of the API server that trainings and hospital tasks need, and no others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from fl_assets.errors import FlAssetsError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Manifest = dict[str, Any]
"""An object of Kubernetes in its JSON form."""

Answer = TypeVar("Answer")

_TRIES = 6
_FIRST_PAUSE = 0.2  # seconds; doubled each time, so a restart of the API server is sat out
_TIMEOUT = (5.0, 15.0)  # seconds to connect and to answer; a connection may be half open for ever
_CURES = {
    401: "renew the credentials of this account",
    403: "give the account this right, as the chart fl-consortium does",
    404: "install the chart fl-consortium, which makes the namespaces",
    409: "wait for the end of the other run of this name, or remove what it left",
    422: "correct what is refused in consortium.yaml's `cluster`",
}
_NOT_ADMITTED = (
    "a hospital's namespace takes nothing but this release's own pods: after an upgrade start the "
    "run again, else bring FLA_SITE_IMAGE to what the chart fl-consortium installed"
)


class ClusterApiError(FlAssetsError):
    """The API server did not do what it was asked for.

    Attributes:
        status: of HTTP; None if there was no answer.
        said: why, in its words.
    """

    def __init__(self, what: str, status: int | None, said: str) -> None:
        cure = _CURES.get(status or 0, "see whether the API server can be reached, and try again")
        if "ValidatingAdmissionPolicy" in said:
            cure = _NOT_ADMITTED
        super().__init__(f"the Kubernetes API server did not {what}: {said}; {cure}")
        self.status = status
        self.said = said


class ClusterApi:
    """A client whose calls are tried again where that may help, and whose objects are JSON.

    Args:
        client: see :func:`fl_assets.cluster.client.connect`.
    """

    def __init__(self, client: ApiClient) -> None:
        from kubernetes.client import BatchV1Api, CoreV1Api

        self._client = client
        self._batch, self._core = BatchV1Api(client), CoreV1Api(client)

    def create(self, manifest: Manifest) -> Manifest:
        """Create a Job, Secret or Service in the namespace that it names; return it.

        Where the answer to an attempt was lost, what that attempt has made is taken for its own.
        A name must be nobody else's for that, as those of :class:`.manifests.PodJob` are.

        Raises:
            ClusterApiError: it was refused.
        """
        kind, meta = manifest["kind"], manifest["metadata"]
        call = {
            "Job": self._batch.create_namespaced_job,
            "Secret": self._core.create_namespaced_secret,
            "Service": self._core.create_namespaced_service,
        }[kind]
        what = f"create {kind} {meta['name']} in namespace {meta['namespace']}"
        attempts = 0

        def create() -> object:
            nonlocal attempts
            attempts += 1
            return call(meta["namespace"], manifest, _request_timeout=_TIMEOUT)

        try:
            return self._json(_patiently(what, create))
        except ClusterApiError as error:
            if error.status != 409 or attempts == 1:
                raise
            return self._made_before(manifest)

    def _made_before(self, manifest: Manifest) -> Manifest:
        kind, meta = manifest["kind"], manifest["metadata"]
        if kind == "Secret":
            # Nobody may read it, and nobody needs what the server adds.
            return manifest
        call = {
            "Job": self._batch.read_namespaced_job,
            "Service": self._core.read_namespaced_service,
        }[kind]
        found = _patiently(
            f"show {kind} {meta['name']} in namespace {meta['namespace']}",
            lambda: call(meta["name"], meta["namespace"], _request_timeout=_TIMEOUT),
        )
        return self._json(found)

    def jobs(self, namespace: str, selector: str) -> list[Manifest]:
        """Return the Jobs whose labels a selector selects.

        Raises:
            ClusterApiError: it was refused.
        """
        return self._list(self._batch.list_namespaced_job, "jobs", namespace, selector)

    def pods(self, namespace: str, selector: str) -> list[Manifest]:
        """Return the pods whose labels a selector selects, the newest last.

        Raises:
            ClusterApiError: it was refused.
        """
        found = self._list(self._core.list_namespaced_pod, "pods", namespace, selector)
        return sorted(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))

    def events(self, namespace: str, name: str) -> list[Manifest]:
        """Return the events about an object, the newest last.

        Raises:
            ClusterApiError: it was refused.
        """
        found = _patiently(
            f"list events in namespace {namespace}",
            lambda: self._core.list_namespaced_event(
                namespace,
                field_selector=f"involvedObject.name={name}",
                _request_timeout=_TIMEOUT,
            ),
        )
        events: list[Manifest] = self._json(found)["items"]
        return sorted(events, key=lambda event: str(event.get("lastTimestamp") or ""))

    def log(self, namespace: str, pod: str) -> str:
        """Return the log of a pod so far; empty before it has one, or when it is gone.

        Raises:
            ClusterApiError: it was refused.
        """
        try:
            # With its content loaded, the client returns the text of a bytes literal.
            answer = _patiently(
                f"read the log of pod {pod} in namespace {namespace}",
                lambda: self._core.read_namespaced_pod_log(
                    pod, namespace, _preload_content=False, _request_timeout=_TIMEOUT
                ),
            )
        except ClusterApiError as error:
            # Not started yet, or not there any more.
            if error.status in (400, 404):
                return ""
            raise
        text: bytes = answer.data
        return text.decode(errors="replace")

    def remove_jobs(self, namespace: str, selector: str) -> None:
        """Remove the Jobs that a selector selects, and what they own, in the background.

        Raises:
            ClusterApiError: it was refused.
        """
        _patiently(
            f"remove jobs in namespace {namespace}",
            lambda: self._batch.delete_collection_namespaced_job(
                namespace,
                label_selector=selector,
                propagation_policy="Background",
                _request_timeout=_TIMEOUT,
            ),
        )

    def _list(
        self, call: Callable[..., Any], plural: str, namespace: str, selector: str
    ) -> list[Manifest]:
        what = f"list {plural} in namespace {namespace}"
        found = _patiently(
            what, lambda: call(namespace, label_selector=selector, _request_timeout=_TIMEOUT)
        )
        items: list[Manifest] = self._json(found)["items"]
        return items

    def _json(self, found: object) -> Manifest:
        plain: Manifest = self._client.sanitize_for_serialization(found)
        return plain


def _patiently(what: str, call: Callable[[], Answer]) -> Answer:
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_FIRST_PAUSE * 2 ** (attempt - 1))
        try:
            return call()
        except ApiException as error:
            status, said = error.status, _said(error.body) or str(error.reason)
            if status is not None and status != 429 and status < 500:
                raise ClusterApiError(what, status, said) from error
        except HTTPError as error:
            status, said = None, str(error)
    raise ClusterApiError(what, status, said)


def _said(body: str | bytes | None) -> str:
    """Return the message of a Status object."""
    try:
        return str(json.loads(body or "{}").get("message", ""))
    except (ValueError, AttributeError):
        return ""

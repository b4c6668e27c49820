"""Asking hospitals by a pod of each hospital's own."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Generic, Self

from pydantic import ValidationError

from fl_assets.coordinator.sites import SiteDataError, SiteTaskError
from fl_assets.errors import FlAssetsError
from fl_assets.federation.runtimes.base import NoImageError
from fl_assets.settings import Settings
from fl_assets.site.tasks import wire
from fl_assets.site.tasks.base import Answer, Request
from fl_assets.storage import ObjectNotFoundError, SiteStore


class BadAnswerError(FlAssetsError):
    """A hospital's reply is none to what it was asked."""

    def __init__(self, hospital: str, task: str, why: str) -> None:
        super().__init__(
            f"{hospital} did not answer {task}: {why}; bring its image to the version of this "
            "software"
        )


class PodSites:
    """Has every request carried out by a pod of the hospital's, which alone may open its store.

    Request and reply are objects in the coordinator's store, under an id that nobody can guess,
    and are removed for good afterwards, however it ends. A pod's arguments hold the id alone.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def ask(self, hospital: str, request: Request[Answer]) -> Answer:
        """Run a pod and read its reply; errors as :meth:`ask_all`."""
        return self.ask_all({hospital: request})[hospital]

    def ask_all(self, requests: Mapping[str, Request[Answer]]) -> dict[str, Answer]:
        """Run the hospitals' pods at the same time and read their replies.

        The first pod that fails ends the others.

        Raises:
            SiteTaskError: a hospital refused, in its words.
            SiteJobError: a pod did not run, or ended without a word of its own.
            BadAnswerError, TooLargeError: a hospital replied something else than an answer.
            NoImageError: FLA_SITE_IMAGE is not set.
        """
        from fl_assets.cluster.site_jobs import SiteJobError

        image = self._settings.site_image
        if image is None:
            raise NoImageError(
                "hospitals' tasks run as their own pods, and nothing says which image: set "
                "FLA_SITE_IMAGE to the name with tag under which it was pushed"
            )
        if not requests:
            return {}
        store = self._settings.coordinator_store()
        errands = [_Errand(store, hospital, request) for hospital, request in requests.items()]
        with ExitStack() as stack:
            for errand in errands:
                stack.enter_context(errand)
            try:
                self._run(image, errands)
            except SiteJobError:
                # A pod's own word is more than what can be seen from outside.
                for errand in errands:
                    with suppress(BadAnswerError):
                        errand.reply()
                raise
            return {errand.hospital: errand.reply() for errand in errands}

    def _run(self, image: str, errands: Sequence[_Errand[Answer]]) -> None:
        from fl_assets.cluster.site_jobs import run_site_jobs

        asked = errands[0].request
        left = [errand.hospital for errand in errands]

        def ended(hospital: str) -> None:
            left.remove(hospital)
            waiting = f", {len(left)} of {len(errands)} have not yet" if left else ""
            sys.stderr.write(f"{asked.task}: {hospital} has answered{waiting}\n")
            sys.stderr.flush()

        cluster = self._settings.whole_consortium.cluster
        arguments = {e.hospital: ("answer", e.hospital, e.id) for e in errands}
        run_site_jobs(cluster, image, arguments, asked.run, ended)


class _Errand(Generic[Answer]):
    """One request to one hospital; in the coordinator's store for as long as the context lasts."""

    def __init__(self, store: SiteStore, hospital: str, request: Request[Answer]) -> None:
        self.hospital = hospital
        self.request = request
        self.id = secrets.token_hex(16)
        self._store = store

    def __enter__(self) -> Self:
        key = wire.request_key(self.hospital, self.id)
        data = self.request.model_dump_json().encode()
        if len(data) > wire.LARGEST_REQUEST:
            raise wire.TooLargeError(key, wire.LARGEST_REQUEST)
        self._store.put(key, data)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._store.purge(wire.request_key(self.hospital, self.id))
        finally:
            self._store.purge(wire.answer_key(self.hospital, self.id))

    def reply(self) -> Answer:
        """Return the answer.

        Raises:
            SiteTaskError: the hospital says why there is none.
            BadAnswerError, TooLargeError: there is none, or it is none to this request.
        """
        key = wire.answer_key(self.hospital, self.id)
        try:
            data = wire.read_bounded(self._store, key, wire.LARGEST_ANSWER)
        except ObjectNotFoundError:
            why = "its pod left no reply"
            raise BadAnswerError(self.hospital, self.request.task, why) from None
        try:
            found = wire.parse_reply(self.request, data)
        except ValidationError as error:
            # Not its text, which quotes what came.
            why = f"{error.error_count()} fields of its reply do not fit"
            raise BadAnswerError(self.hospital, self.request.task, why) from None
        if isinstance(found, wire.Failure):
            kind = SiteDataError if found.final else SiteTaskError
            raise kind(self.hospital, found.error, found.message)
        return found

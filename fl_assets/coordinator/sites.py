"""Asking hospitals: in this process, or as a pod of each hospital's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from fl_assets.errors import BadDataError, FlAssetsError
from fl_assets.settings import Settings
from fl_assets.site.tasks.base import Answer, Request, perform


class SiteTaskError(FlAssetsError):
    """A hospital did not do what it was asked to.

    Attributes:
        error: type of the error at the hospital.
    """

    def __init__(self, hospital: str, error: str, message: str) -> None:
        super().__init__(f"{hospital}: {error}: {message}")
        self.error = error


class SiteDataError(SiteTaskError, BadDataError):
    """A hospital cannot do what it was asked to, and a retry would not help."""


class Sites(Protocol):
    """The hospitals, as the coordinator may reach them."""

    def ask(self, hospital: str, request: Request[Answer]) -> Answer:
        """Have a hospital carry out a request.

        Raises:
            FlAssetsError: what it raised; see :func:`came_of`.
        """

    def ask_all(self, requests: Mapping[str, Request[Answer]]) -> dict[str, Answer]:
        """Have each hospital carry out its request; the answers are in the order of the requests.

        Raises:
            FlAssetsError: of the first hospital that did not.
        """


def came_of(error: FlAssetsError, kind: type[FlAssetsError]) -> bool:
    """Tell whether an error is of a type, here or at the hospital that was asked."""
    return isinstance(error, kind) or (
        isinstance(error, SiteTaskError) and error.error == kind.__name__
    )


def sites_of(settings: Settings) -> Sites:
    """Return the hospitals as the settings reach them."""
    if settings.runtime != "kubernetes":
        return InProcessSites(settings)
    from fl_assets.coordinator.pod_sites import PodSites

    return PodSites(settings)


class InProcessSites:
    """Plays the hospitals in this process, which needs the rights on their stores."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def ask(self, hospital: str, request: Request[Answer]) -> Answer:
        """Carry the request out here; nothing is serialised."""
        return perform(self._settings, hospital, request)

    def ask_all(self, requests: Mapping[str, Request[Answer]]) -> dict[str, Answer]:
        """Carry out one after the other."""
        return {hospital: self.ask(hospital, request) for hospital, request in requests.items()}

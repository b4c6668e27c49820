"""The shape of a request, and how a hospital carries one out."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar, get_type_hints

from pydantic import BaseModel

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.config import StrictModel
from fl_assets.consortium import Consortium
from fl_assets.settings import Settings
from fl_assets.storage import SiteStore

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True)
class Site:
    """A hospital at work, with its own settings and the rights on its own store.

    Attributes:
        settings: of its process. Only ``whole_consortium`` is for it: who has withdrawn stands in
            the coordinator's store, which is out of a hospital's reach.
        hospital: name.
    """

    settings: Settings
    hospital: str

    @cached_property
    def store(self) -> SiteStore:
        """The hospital's own."""
        return self.settings.site_store(self.hospital)

    @property
    def consortium(self) -> Consortium:
        """As its file has it at the hospital."""
        return self.settings.whole_consortium

    @property
    def cohort(self) -> CohortSpec:
        """The cohort, as its file has it at the hospital."""
        return self.settings.cohort


class Request(StrictModel, Generic[Answer]):
    """Something to do, and who asks.

    Attributes:
        task: what is to be done.
        run: who asks, for the hospital's egress log and ledger.
    """

    task: str
    run: str

    @abstractmethod
    def perform(self, site: Site) -> Answer:
        """Do it at a hospital; what the answer tells is in the egress log before it is returned."""


def answer_type(request: Request[Answer]) -> type[Answer]:
    """Return the model of a request's answer."""
    found: type[Answer] = get_type_hints(type(request).perform)["return"]
    return found


def perform(settings: Settings, hospital: str, request: Request[Answer]) -> Answer:
    """Carry out a request with the hospital's store and by the hospital's own settings.

    Raises:
        UnknownHospitalError: there is none of that name.
        FlAssetsError: what the task itself raises.
    """
    settings.whole_consortium.hospital(hospital)
    return request.perform(Site(settings, hospital))

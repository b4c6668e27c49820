"""Requests about a hospital's data and its logs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fl_assets.config import StrictModel
from fl_assets.privacy.ledger import Ledger
from fl_assets.privacy.ledger_entries import LedgerHead
from fl_assets.privacy.ledger_view import LedgerView, view_ledger
from fl_assets.site import intake, partitions, profile
from fl_assets.site.egress import EgressLog
from fl_assets.site.egress_summary import EgressSummary, summarise
from fl_assets.site.engines import intake_engine
from fl_assets.site.intake import RecordsManifest
from fl_assets.site.partitions import PartitionManifest
from fl_assets.site.profile import HospitalProfile
from fl_assets.site.tasks.base import Request, Site


class CollectRecords(Request[RecordsManifest]):
    """Make records of the hospital's uploads."""

    task: Literal["records"] = "records"

    def perform(self, site: Site) -> RecordsManifest:
        """As :func:`fl_assets.site.intake.collect_records`."""
        engine = intake_engine(site.settings, site.hospital)
        return intake.collect_records(
            site.store, site.cohort, site.consortium.intake, engine, self.run
        )


class BuildPartitions(Request[PartitionManifest]):
    """Deal the records to train, validation and test."""

    task: Literal["partitions"] = "partitions"

    def perform(self, site: Site) -> PartitionManifest:
        """As :func:`fl_assets.site.partitions.build_partitions`."""
        return partitions.build_partitions(site.store, site.cohort, site.consortium.split, self.run)


class Verification(StrictModel):
    """What is wrong with the stored partitions, in words; nothing if empty."""

    problems: tuple[str, ...]


class VerifyPartitions(Request[Verification]):
    """Compare the stored partitions with their manifest and with the records."""

    task: Literal["verify"] = "verify"

    def perform(self, site: Site) -> Verification:
        """As :func:`fl_assets.site.partitions.verify`."""
        found = Verification(problems=tuple(partitions.verify(site.store, site.cohort)))
        log = EgressLog(site.store)
        log.release("partitions", self.run, found.model_dump_json().encode(), "verification")
        return found


class BuildProfile(Request[HospitalProfile]):
    """Describe the training rows."""

    task: Literal["profile"] = "profile"

    def perform(self, site: Site) -> HospitalProfile:
        """As :func:`fl_assets.site.profile.build_profile`."""
        consortium = site.consortium
        noised = profile.noised_profile(consortium, site.hospital)
        return profile.build_profile(
            site.store, site.cohort, consortium.minimum_cell, self.run, noised
        )


class ShowLedger(Request[LedgerView]):
    """Tell what the privacy ledger says.

    Attributes:
        witness: the newest entry that the coordinator has seen, which must be in it.
    """

    task: Literal["ledger"] = "ledger"
    witness: LedgerHead | None = None

    def perform(self, site: Site) -> LedgerView:
        """Verify and sum up the ledger, and log the release.

        Raises:
            LedgerDamagedError: it is not whole.
        """
        witnesses = [] if self.witness is None else [self.witness]
        ledger = Ledger(site.store, site.hospital, witnesses)
        view = view_ledger(ledger, site.hospital, site.consortium.budget(site.hospital))
        shown = view.budget.model_dump_json() + "".join(e.model_dump_json() for e in view.lines)
        log = EgressLog(site.store)
        log.release("ledger", self.run, shown.encode(), "budget and entries")
        return view


class ShowEgress(Request[EgressSummary]):
    """Tell what left the hospital, summed up."""

    task: Literal["egress"] = "egress"

    def perform(self, site: Site) -> EgressSummary:
        """As :func:`fl_assets.site.egress_summary.summarise`."""
        return summarise(EgressLog(site.store).entries())


DataRequest = Annotated[
    CollectRecords | BuildPartitions | VerifyPartitions | BuildProfile | ShowLedger | ShowEgress,
    Field(discriminator="task"),
]
"""All that a hospital may be asked about its data."""

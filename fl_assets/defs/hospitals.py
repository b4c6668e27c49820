"""What happens at one hospital after an upload: records, partitions, profile."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from fl_assets.defs.automation import refresh_condition
from fl_assets.defs.common import (
    SITE,
    count_table,
    digest,
    failing_clearly,
    markdown_table,
    picture,
    retried,
)
from fl_assets.defs.partitions import HOSPITALS
from fl_assets.defs.resources import Platform
from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings

if TYPE_CHECKING:
    from fl_assets.cohorts.spec import CohortSpec
    from fl_assets.site.intake import Upload
    from fl_assets.site.profile import HospitalProfile


def hospital_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return ``hospital_records``, ``hospital_partitions`` and ``hospital_profile``."""
    contract = settings.cohort.version
    consortium = settings.consortium
    split = digest(consortium.split)
    # The floor says nothing about a noised profile.
    epsilon = consortium.profile_epsilon
    disclosure = str(consortium.minimum_cell) if epsilon is None else f"epsilon-{epsilon:g}"
    # One hospital = one run = one retry unit = one set of credentials. No backfill policy:
    # runs of one lack the tag by which the queue keeps them apart.

    # Nobody asks again for what automation asked for.
    soon_again = partial(retried, max_retries=2, delay=2)

    @dg.asset(
        deps=["hospital_uploads"] if settings.consortium.simulated else [],
        partitions_def=HOSPITALS,
        group_name="hospital",
        kinds={"parquet", "pandera"},
        owners=SITE,
        code_version=f"2.{contract}.{digest(consortium.intake)}",
        description="All accepted uploads of the hospital, validated and deduplicated by id "
        "(latest wins), quarantine beside it. Uploads with too many bad rows block it: the records "
        "stay as they are.",
        check_specs=[
            dg.AssetCheckSpec(
                "rows_accounted_for",
                asset="hospital_records",
                blocking=True,
                description="Rows in = accepted + quarantined + duplicates.",
            ),
            dg.AssetCheckSpec(
                "uploads_readable",
                asset="hospital_records",
                description="No uploaded file was refused as a whole.",
            ),
            dg.AssetCheckSpec(
                "uploads_unblocked",
                asset="hospital_records",
                description="No upload keeps the records from changing.",
            ),
        ],
    )
    def hospital_records(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        from fl_assets.coordinator.sites import came_of, sites_of
        from fl_assets.site.intake import BlockedUploadsError, load_intake
        from fl_assets.site.tasks.data import CollectRecords

        settings, hospital = platform.settings, context.partition_key
        with failing_clearly():
            try:
                request = CollectRecords(run=context.run.run_id)
                manifest = sites_of(settings).ask(hospital, request)
            except FlAssetsError as error:
                if came_of(error, BlockedUploadsError):
                    blocked = load_intake(settings.listing_store(hospital)).blocked
                    yield dg.AssetCheckResult(
                        check_name="uploads_unblocked",
                        passed=False,
                        description=f"{len(blocked)} uploads block the records",
                        metadata={"blocked": count_table(blocked, "upload", "reason")},
                    )
                raise
        counts = manifest.counts
        refused = {u.key: u.refused for u in manifest.uploads if u.refused}
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(manifest.version),
            metadata={
                "rows_in": counts.rows_in,
                "dagster/row_count": counts.accepted,
                "quarantined": counts.quarantined,
                "duplicates": counts.duplicates,
                "uploads": _upload_table(manifest.uploads),
                "quarantine_reasons": count_table(manifest.reasons, "reason", "rows"),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="rows_accounted_for",
                    passed=counts.reconciled,
                    metadata={"rows_in": counts.rows_in, "accepted": counts.accepted},
                ),
                dg.AssetCheckResult(
                    check_name="uploads_readable",
                    passed=not refused,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=f"{len(refused)} of {len(manifest.uploads)} uploads were refused",
                    metadata={"refused": count_table(refused, "upload", "reason")},
                ),
                dg.AssetCheckResult(check_name="uploads_unblocked", passed=True),
            ],
        )

    @dg.asset(
        deps=[hospital_records],
        partitions_def=HOSPITALS,
        automation_condition=refresh_condition(),
        group_name="hospital",
        kinds={"parquet"},
        owners=SITE,
        code_version=f"1.{split}",
        description="Train, validation and test Parquet. A record's part is a keyed hash of its "
        "id, so it never changes side when data is added.",
        check_specs=[
            dg.AssetCheckSpec(
                "partition_manifest",
                asset="hospital_partitions",
                blocking=True,
                description="Files as the manifest says; no row in two parts, none lost.",
            )
        ],
    )
    def hospital_partitions(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        from fl_assets.coordinator.sites import sites_of
        from fl_assets.site.tasks.data import BuildPartitions, VerifyPartitions

        hospital, run = context.partition_key, context.run.run_id
        sites = sites_of(platform.settings)
        with soon_again(), failing_clearly():
            manifest = sites.ask(hospital, BuildPartitions(run=run))
            problems = sites.ask(hospital, VerifyPartitions(run=run)).problems
        return dg.MaterializeResult(
            data_version=dg.DataVersion(manifest.version),
            metadata={
                "dagster/row_count": manifest.rows,
                "parts": count_table(
                    {p: f.rows for p, f in manifest.files.items()}, "part", "rows"
                ),
                "records": manifest.records,
                "sha256": count_table(
                    {p: f.sha256 for p, f in manifest.files.items()}, "part", "sha256"
                ),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="partition_manifest",
                    passed=not problems,
                    metadata={"problems": "; ".join(problems) or "none"},
                )
            ],
        )

    @dg.asset(
        deps=[hospital_partitions],
        partitions_def=HOSPITALS,
        automation_condition=refresh_condition(),
        group_name="hospital",
        kinds={"json"},
        owners=SITE,
        code_version=f"1.{disclosure}",
        description="Aggregate statistics of the training rows, with a minimum count per cell or "
        "with noise that is charged to the hospital's privacy ledger: all that the hospital tells "
        "of its data. Written to its egress log.",
    )
    def hospital_profile(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        from fl_assets.coordinator.sites import sites_of
        from fl_assets.site.tasks.data import BuildProfile

        settings, hospital = platform.settings, context.partition_key
        with soon_again(), failing_clearly():
            request = BuildProfile(run=context.run.run_id)
            profile = sites_of(settings).ask(hospital, request)
        noised = profile.noised
        return dg.MaterializeResult(
            data_version=dg.DataVersion(profile.version),
            metadata={
                "training_rows": profile.rows,
                **({"noised": count_table(dict(noised), "noise", "value")} if noised else {}),
                **_profile_plots(hospital, profile, settings.cohort),
            },
        )

    return [hospital_records, hospital_partitions, hospital_profile]


def _upload_table(uploads: "Iterable[Upload]") -> dg.MarkdownMetadataValue:
    return markdown_table(
        ["upload", "rows in", "accepted", "in quarantine", "duplicates", "refused"],
        [
            (u.key, u.rows_in, u.accepted, u.quarantined, u.duplicates, u.refused or "")
            for u in uploads
        ],
    )


def _profile_plots(
    hospital: str, profile: "HospitalProfile", spec: "CohortSpec"
) -> dict[str, dg.MetadataValue]:
    from fl_assets.reporting import data_plots
    from fl_assets.reporting.html import Picture

    balance = data_plots.class_balance({hospital: (profile.label["1"], profile.rows)})
    histograms = {
        column.name: (column.bins, list(profile.histograms[column.name].values()))
        for column in spec.numbers
    }
    units = {column.name: column.unit for column in spec.numbers}
    distributions = data_plots.distributions(histograms, profile.counts, units)
    return {
        "class_balance": picture(Picture(balance, "Class balance of the training rows")),
        "distributions": picture(Picture(distributions, "Distributions of the training rows")),
    }

"""Demo only: a public data set, validated and dealt out to simulated hospitals."""

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

import dagster as dg

from fl_assets.defs.common import (
    COORDINATOR,
    DEMO,
    count_table,
    digest,
    failing_clearly,
    markdown_table,
    picture,
)
from fl_assets.defs.partitions import HOSPITALS
from fl_assets.defs.resources import Platform
from fl_assets.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from fl_assets.cohorts.contract import Checked
    from fl_assets.cohorts.report import DataReport
    from fl_assets.cohorts.split import Deal
    from fl_assets.cohorts.split_report import SplitReport

    _Dealt = tuple[pd.DataFrame, Deal, dict[str, dg.MetadataValue]]

RAW = "raw/current.parquet"
VALIDATED = "validated/current.parquet"
SYNTHETIC_SEED = 0


def ingest_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return ``raw_dataset``, ``validated_dataset`` and ``hospital_uploads``."""
    contract = settings.cohort.version
    shares = [
        f"{hospital.name}{hospital.share}" for hospital in settings.whole_consortium.hospitals
    ]
    dealing = digest(settings.whole_consortium.simulation, *shares)

    @dg.asset(
        group_name="ingest",
        kinds={"parquet", "pandas"},
        owners=COORDINATOR,
        tags=DEMO,
        code_version=f"1.{contract}",
        description="The public data set as raw text rows: the synthetic generator (default), a "
        "local file (DATA=path) or the Kaggle API (DATA=kaggle).",
    )
    def raw_dataset(platform: Platform) -> dg.MaterializeResult:
        from fl_assets.cohorts.reader import read_rows
        from fl_assets.cohorts.source import fetch
        from fl_assets.site import rows

        settings = platform.settings
        with failing_clearly():
            raw = fetch(settings.data, settings.cohort, settings.synthetic_rows, SYNTHETIC_SEED)
            frame = read_rows(raw.data, settings.cohort, raw.name)
            store = settings.coordinator_store()
            store.put("raw/current.csv", raw.data)
            rows.write_rows(store, RAW, frame)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(raw.sha256[:16]),
            metadata={
                "source": raw.origin,
                "sha256": raw.sha256,
                "dagster/row_count": len(frame),
                "columns": len(settings.cohort.file_columns),
            },
        )

    @dg.asset(
        deps=[raw_dataset],
        group_name="ingest",
        kinds={"parquet", "pandera"},
        owners=COORDINATOR,
        tags=DEMO,
        code_version=f"1.{contract}",
        description="Rows that pass the cohort's contract; the others in quarantine with a reason "
        "per row. Carries the data report.",
        check_specs=[
            dg.AssetCheckSpec(
                "contract",
                asset="validated_dataset",
                blocking=True,
                description="Every row is accepted, quarantined or a duplicate; some are accepted.",
            )
        ],
    )
    def validated_dataset(platform: Platform) -> dg.MaterializeResult:
        from fl_assets.cohorts.contract import check_rows
        from fl_assets.cohorts.report import data_report
        from fl_assets.site import rows

        settings = platform.settings
        store = settings.coordinator_store()
        with failing_clearly():
            checked = check_rows(rows.read_rows(store, RAW), settings.cohort)
            rows.write_rows(store, "validated/quarantine.parquet", checked.quarantine)
            rows.write_rows(store, "validated/duplicates.parquet", checked.duplicates)
            rows.write_rows(store, VALIDATED, checked.accepted)
        counts = checked.counts
        return dg.MaterializeResult(
            data_version=dg.DataVersion(rows.content_hash(checked.accepted)),
            metadata={
                **_counts_metadata(checked),
                **_report_metadata(data_report(checked.accepted, settings.cohort)),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="contract",
                    passed=counts.reconciled and counts.accepted > 0,
                    metadata={"rows_in": counts.rows_in, "accepted": counts.accepted},
                )
            ],
        )

    @dg.asset(
        deps=[validated_dataset],
        partitions_def=HOSPITALS,
        group_name="ingest",
        kinds={"csv"},
        owners=COORDINATOR,
        tags=DEMO,
        code_version=f"1.{contract}.{dealing}",
        description="Simulation: the hospital's share of the non-IID split, put into its incoming/ "
        "as an upload would arrive.",
        check_specs=[
            dg.AssetCheckSpec(
                "split_self_check",
                asset="hospital_uploads",
                blocking=True,
                description="No row dealt twice, none lost, every hospital has some.",
            )
        ],
    )
    def hospital_uploads(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        from fl_assets.coordinator.simulation import upload
        from fl_assets.site.pooling import simulated_stores

        settings, hospital = platform.settings, context.partition_key
        with failing_clearly():
            frame, dealt, metadata = _dealt(settings)
            mine = frame[dealt.assignment == dealt.hospitals.index(hospital)]
            store = simulated_stores(settings, [hospital])[hospital]
            version = upload(store, mine, settings.cohort)
        for note in dealt.notes:
            context.log.warning(note)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(version),
            metadata={
                "dagster/row_count": len(mine),
                "split": settings.whole_consortium.simulation.split,
                "notes": "; ".join(dealt.notes) or "none",
                **metadata,
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="split_self_check",
                    passed=not dealt.report.problems,
                    metadata={"problems": "; ".join(dealt.report.problems) or "none"},
                )
            ],
        )

    return [raw_dataset, validated_dataset, hospital_uploads]


def _dealt(settings: Settings) -> "_Dealt":
    """Return the validated rows, their split and what there is to show of it."""
    data = settings.coordinator_store().get(VALIDATED)
    sha256 = hashlib.sha256(data).hexdigest()
    files = settings.cohort.version, settings.whole_consortium.model_dump_json()
    return _deal_once(settings, sha256, files)


# The main job asks for the same split hospital by hospital, and with many hospitals it takes longer
# than all that a small one does with its rows.
@lru_cache(maxsize=1)
def _deal_once(
    settings: Settings,
    sha256: str,
    files: tuple[str, ...],  # noqa: ARG001  (of the key: what the settings name may change)
) -> "_Dealt":
    from fl_assets.cohorts.split import deal
    from fl_assets.site import rows

    frame = rows.read_rows(settings.coordinator_store(), VALIDATED, sha256)
    dealt = deal(frame, settings.cohort, settings.whole_consortium)
    return frame, dealt, _split_metadata(dealt.report, settings.cohort.column_names)


def _counts_metadata(checked: "Checked") -> dict[str, dg.MetadataValue | int]:
    counts = checked.counts
    return {
        "rows_in": counts.rows_in,
        "dagster/row_count": counts.accepted,
        "quarantined": counts.quarantined,
        "duplicates": counts.duplicates,
        "quarantine_reasons": count_table(checked.reasons, "reason", "rows"),
    }


def _report_metadata(report: "DataReport") -> dict[str, dg.MetadataValue | float | str]:
    from fl_assets.reporting import data_plots
    from fl_assets.reporting.html import Picture

    histograms = {name: (n.edges, n.histogram) for name, n in report.numbers.items()}
    units = {name: n.unit for name, n in report.numbers.items()}
    outliers = {name: n.below + n.above for name, n in report.numbers.items()}
    return {
        "label_rate": "n/a" if report.label_rate is None else report.label_rate,
        "outliers": count_table(outliers, "column", "rows beyond the public clip range"),
        "missingness": picture(
            Picture(data_plots.missingness(report.missing, report.rows), "Missing values")
        ),
        "distributions": picture(
            Picture(data_plots.distributions(histograms, report.categories, units), "Distributions")
        ),
        "correlation": picture(
            Picture(
                data_plots.correlation(report.correlation, report.correlated, report.rows),
                "Correlation",
            )
        ),
    }


def _split_metadata(report: "SplitReport", columns: list[str]) -> dict[str, dg.MetadataValue]:
    from fl_assets.reporting import data_plots
    from fl_assets.reporting.html import Picture

    def show(figure: float | None) -> str:
        return "n/a" if figure is None else f"{figure:.3f}"

    shares = report.hospitals
    balance = {share.hospital: (share.positives, share.rows) for share in shares}
    return {
        "class_balance": picture(
            Picture(data_plots.class_balance(balance), "Class balance per hospital")
        ),
        "hospitals": markdown_table(
            ["hospital", "rows", "positives", "label rate", "mean age"],
            [
                (s.hospital, s.rows, s.positives, show(s.label_rate), show(s.mean_age))
                for s in shares
            ],
        ),
        "jensen_shannon_distance": markdown_table(
            ["feature", *(share.hospital for share in shares)],
            [(name, *(show(share.distance.get(name)) for share in shares)) for name in columns],
        ),
    }

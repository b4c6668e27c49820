"""The comparison and the promotion as tables, plots and one HTML report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fl_assets.coordinator import documents
from fl_assets.coordinator.audit import audit_of
from fl_assets.coordinator.audit_report import audit_plot, audit_table
from fl_assets.coordinator.comparison import Comparison, load_comparison
from fl_assets.coordinator.decision import KEY as PROMOTION_KEY
from fl_assets.coordinator.decision import Promotion
from fl_assets.coordinator.evaluation import ModelEvaluation
from fl_assets.coordinator.training import load_history, load_release
from fl_assets.coordinator.utility import utility_plots
from fl_assets.federation.job import FederationHistory
from fl_assets.learning.evaluation import Evaluation
from fl_assets.learning.metrics import Metric
from fl_assets.learning.paired import combine
from fl_assets.reporting import plots
from fl_assets.reporting.html import Cell, Picture, Section, Table, render
from fl_assets.reporting.text import difference, interval, mean, of_hospitals
from fl_assets.settings import Settings
from fl_assets.tracking.runs import Tracking

POOLED = "all hospitals"


def comparison_table(comparison: Comparison) -> Table:
    """Return the table of all models.

    On the pooled test rows in a simulation, else the mean over hospitals without intervals. A
    mean over fewer than were asked, since the figure does not exist at all of them, says so.
    """
    pooled = any(row.evaluation.pooled for row in comparison.models)
    rows: list[list[Cell]] = []
    for row in comparison.models:
        found = row.evaluation.pooled if pooled else None
        rows.append(
            [
                row.evaluation.model,
                row.kind,
                interval(found) if found else _mean(row.evaluation, Metric.AUROC),
                *(
                    _figure(getattr(found, metric)) if found else _mean(row.evaluation, metric)
                    for metric in _COLUMNS.values()
                ),
            ]
        )
    where = (
        "on the pooled test rows"
        if pooled
        else "mean over the test rows of its hospitals, or of as many as have the figure (k of n)"
    )
    older = f" (left out, of older data: {', '.join(comparison.left_out)})"
    return Table(
        f"Every model, {where}; AUROC with its 95 % interval"
        + (older if comparison.left_out else ""),
        ["model", "kind", "AUROC [95 %]", *_COLUMNS],
        rows,
    )


_COLUMNS = {
    "AUPRC": Metric.AUPRC,
    "sens. at 80 % spec.": Metric.SENSITIVITY_AT_80_SPECIFICITY,
    "Brier": Metric.BRIER,
    "ECE": Metric.ECE,
    "accuracy": Metric.ACCURACY,
    "majority rate": Metric.MAJORITY_RATE,
}


def _mean(found: ModelEvaluation, metric: Metric) -> str:
    return mean(found.mean(metric), found.behind(metric), len(found.sites))


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def hospital_table(comparison: Comparison) -> Table:
    """Return AUROC with interval of every model at every hospital."""
    rows: list[list[Cell]] = []
    for row in comparison.models:
        sites = row.evaluation.sites
        rows.append(
            [
                row.evaluation.model,
                *(
                    interval(sites[name].evaluation if name in sites else None)
                    for name in comparison.hospitals
                ),
            ]
        )
    header = ["model"]
    for name in comparison.hospitals:
        people = _people(comparison, name)
        header.append(f"{name} ({people})" if people else name)
    return Table("AUROC with its 95 % interval on each hospital's own test rows", header, rows)


def _people(comparison: Comparison, hospital: str) -> str:
    for row in comparison.models:
        site = row.evaluation.sites.get(hospital)
        if site is not None and site.evaluation is not None:
            return f"{site.evaluation.n} rows, {site.evaluation.positives} positive"
    return ""


def evaluation_table(found: ModelEvaluation) -> Table:
    """Return how one model does at each hospital and, in a simulation, on all rows."""
    shown = {name: site.evaluation for name, site in found.sites.items()}
    if found.pooled is not None:
        shown[POOLED] = found.pooled
    return Table(
        f"{found.model} on the test rows{_with_noise(found)}",
        ["hospital", "rows", "positives", "AUROC [95 %]", *_COLUMNS],
        [_evaluation_row(name, evaluation) for name, evaluation in shown.items()],
    )


def _evaluation_row(name: str, found: Evaluation | None) -> list[Cell]:
    if found is None:
        return [name, "too few", "n/a", "n/a", *["n/a"] * len(_COLUMNS)]
    figures = [_figure(getattr(found, metric)) for metric in _COLUMNS.values()]
    return [name, found.n, found.positives, interval(found), *figures]


def _with_noise(found: ModelEvaluation) -> str:
    noised = found.noised
    if noised is None:
        return ""
    return (
        f", with noise: epsilon {noised.epsilon:g} at each hospital, {noised.deviation:.1f} people "
        "standard deviation in every count behind the figures"
    )


def personal_table(found: ModelEvaluation) -> Table | None:
    """Return the global model beside each hospital's own, None where no hospital has one."""
    pairs = dict(found.personal)
    together = combine(pairs.values())
    if together is None:
        return None
    if len(pairs) > 1:
        pairs[f"mean{of_hospitals(together.metrics[Metric.AUROC], len(found.sites))}"] = together
    rows: list[list[Cell]] = [
        [name, _figure(auroc.a), _figure(auroc.b), difference(auroc)]
        for name, auroc in ((name, pair.metrics[Metric.AUROC]) for name, pair in pairs.items())
    ]
    return Table(
        "The global model and each hospital's own on that hospital's test rows; the difference is "
        "paired by patient, their mean is weighted by test rows",
        ["hospital", "global AUROC", "personal AUROC", "difference [95 %]"],
        rows,
    )


def comparison_plots(comparison: Comparison) -> list[Picture]:
    """Return bars, ROC and calibration of the models on the pooled test rows, where there are."""
    pooled = {row.evaluation.model: row.evaluation.pooled for row in comparison.models}
    found = {name: evaluation for name, evaluation in pooled.items() if evaluation is not None}
    if found:
        bars = [plots.Bar(n, e.auroc, e.auroc_low, e.auroc_high) for n, e in found.items()]
        people = next(iter(found.values())).n
    else:
        bars = [
            plots.Bar(_with_hospitals(r.evaluation), r.evaluation.mean(Metric.AUROC))
            for r in comparison.models
        ]
        people = 0
    age = next((bar.value for bar in bars if bar.name == "age_only"), None)
    label = (
        f"AUROC on pooled test rows (n = {people:,})"
        if people
        else "mean AUROC over the hospitals that have one (k of n)"
    )
    reference = ("age alone", age) if age is not None else None
    pictures = [
        Picture(plots.comparison_bars(bars, label, reference=reference), "AUROC of every model")
    ]
    # Curves of every model would hide one another: the references and the federation are enough.
    shown = {
        row.evaluation.model: found[row.evaluation.model]
        for row in comparison.models
        if row.kind in {"centralised", "federated"} and row.evaluation.model in found
    }
    return pictures + _curves(shown)


def _with_hospitals(found: ModelEvaluation) -> str:
    """Return a model's name, with the number of hospitals behind its mean if it is not all."""
    behind, asked = found.behind(Metric.AUROC), len(found.sites)
    return f"{found.model} ({behind} of {asked})" if 0 < behind < asked else found.model


def evaluation_plots(found: ModelEvaluation) -> list[Picture]:
    """Return ROC and calibration of one model at each hospital."""
    return _curves(
        {name: s.evaluation for name, s in found.sites.items() if s.evaluation is not None}
    )


def _curves(shown: Mapping[str, Evaluation]) -> list[Picture]:
    if not shown:
        return []
    curves = {name: e.roc for name, e in shown.items()}
    areas = {name: e.auroc for name, e in shown.items()}
    sizes = {name: e.n for name, e in shown.items()}
    bins = {name: e.calibration for name, e in shown.items()}
    return [
        Picture(plots.roc_curves(curves, areas, sizes), "ROC curves"),
        Picture(plots.calibration(bins), "Calibration curves"),
    ]


def history_plot(history: FederationHistory) -> Picture:
    """Return the validation AUROC of every hospital over the rounds."""
    names = sorted(history.participants)
    series = {
        name: [
            report.sites[name].validation_auroc if name in report.sites else None
            for report in history.rounds
        ]
        for name in names
    }
    series["mean"] = [report.validation_auroc for report in history.rounds]
    return Picture(plots.rounds(series, "validation AUROC"), "Validation AUROC per round")


def log_pictures(settings: Settings, mlflow_run: str, pictures: Iterable[Picture]) -> None:
    """Put plots beside a model's run in MLflow, under ``plots/``.

    Raises:
        TrackingError: MLflow could not be reached.
    """
    tracking = Tracking(settings.tracking_uri, settings.consortium.name)
    for picture in pictures:
        tracking.log_file(mlflow_run, f"plots/{picture.name}.png", picture.png)


def gates_table(promotion: Promotion) -> Table:
    """Return the gates of a promotion."""
    rows: list[list[Cell]] = [
        [g.gate, g.asked, g.found, "passed" if g.passed else "FAILED"] for g in promotion.gates
    ]
    return Table("Promotion gates, read anew", ["gate", "asked", "found", "verdict"], rows)


def write_report(settings: Settings) -> str:
    """Render the HTML report from what is stored, store it and return it.

    Raises:
        ObjectNotFoundError: nothing was compared or promoted yet.
    """
    store = settings.coordinator_store()
    comparison = load_comparison(store)
    promotion = documents.load(store, PROMOTION_KEY, Promotion)
    sections = [
        Section(
            "Champion",
            f"{promotion.candidate.model} version {promotion.candidate.version}, recipe "
            f"{promotion.candidate.recipe.name}: "
            + ("promoted." if promotion.promoted else "not promoted, a gate failed."),
            [gates_table(promotion)],
        ),
        Section(
            "Comparison",
            "Accuracy stands beside the rate of the majority class, since a model that calls "
            "nobody at risk reaches that rate. Overlapping intervals show no difference. A "
            "hospital alone with a handful of positives may have learned nothing (0.5) or noise "
            "(below it).",
            [comparison_table(comparison), hospital_table(comparison)],
            comparison_plots(comparison) + utility_plots(store, comparison),
        ),
    ]
    for row in comparison.of_kind("federated"):
        release = load_release(store, row.evaluation.model)
        history = load_history(store, release)
        dropouts = sum(len(report.dropouts) for report in history.rounds)
        personal = personal_table(row.evaluation)
        audit = audit_of(store, release)
        sections.append(
            Section(
                f"Recipe {row.evaluation.model}",
                f"{release.recipe.description}\n\n{len(history.rounds)} rounds, {dropouts} "
                f"dropouts, operating threshold {release.threshold:.4f}. "
                f"Privacy: {release.privacy}.",
                [*([personal] if personal else []), *([audit_table(audit)] if audit else [])],
                images=[history_plot(history), *([audit_plot(audit)] if audit else [])],
            )
        )
    html = render(f"{settings.consortium.name}: federated {comparison.cohort} risk", sections)
    store.put("report.html", html.encode())
    return html

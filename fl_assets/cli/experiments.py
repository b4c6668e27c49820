"""The commands of a researcher: ``recipes``, ``run``, ``compare``, ``sweep``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from fl_assets.cli.output import Format, FormatOption, err, out, print_json, print_table
from fl_assets.cli.steps import StepsFailedError, announce, dagster, step_json, tell
from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings

if TYPE_CHECKING:
    from fl_assets.pipeline import Outcome, Step


class OneRecipeError(FlAssetsError):
    """``fla compare`` was given one recipe."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} alone cannot be compared: name a second recipe, or none for all")


def recipes(answer: FormatOption = Format.TABLE) -> None:
    """Show every recipe and what became of it.

    Exit code 1 if a recipe file is wrong; the others are shown all the same.
    """
    from fl_assets.coordinator.catalogue import catalogue, catalogue_table

    entries = catalogue(Settings.from_environment())
    wrong = [entry for entry in entries if entry.error is not None]
    if answer == Format.JSON:
        print_json([entry.model_dump(mode="json") for entry in entries])
    else:
        print_table(catalogue_table(entries))
        for entry in wrong:
            err.print(f"[red]✗[/] {entry.name}: {escape(str(entry.error))}", soft_wrap=True)
    if wrong:
        raise typer.Exit(1)


def run(
    names: Annotated[list[str], typer.Argument(metavar="RECIPE...", help="Names of recipes.")],
    runtime: Annotated[
        str | None,
        typer.Option(
            help="inprocess (default), processes or simulation (environment: FLA_RUNTIME)."
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65_535,
            help="Serve Prometheus metrics here during training (environment: FLA_METRICS_PORT).",
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Begin at the first round, resume and reuse nothing."),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Train also what is up to date, from the first round."),
    ] = False,
    answer: FormatOption = Format.TABLE,
) -> None:
    """Train recipes on the hospitals' partitions, evaluate them and compare all models.

    One that fails does not hold up the others; exit code 1 if any did.
    """
    from fl_assets.pipeline import StepFailedError, run_recipes

    settings = Settings.from_environment()
    settings = dataclasses.replace(
        settings,
        runtime=runtime or settings.runtime,
        metrics_port=metrics_port or settings.metrics_port,
    )
    outcomes: list[Outcome] = []
    failed = False
    with dagster(settings) as instance:
        steps = run_recipes(settings, instance, names, before=announce, fresh=fresh, force=force)
        try:
            for outcome in steps:
                outcomes.append(outcome)
                tell(outcome)
                if answer == Format.TABLE and outcome.failure is None:
                    _show_evaluation(settings, outcome.step)
        except StepFailedError:
            failed = True
    if answer == Format.JSON:
        print_json(_run_json(settings, names, outcomes))
    if failed:
        raise StepsFailedError(outcomes)


def _show_evaluation(settings: Settings, step: Step) -> None:
    """Show how the model does that a step evaluated."""
    from fl_assets.coordinator.evaluation import load_evaluation
    from fl_assets.coordinator.summary import evaluation_table, personal_table

    if "federated_evaluation" not in step.assets:
        return
    found = load_evaluation(settings.coordinator_store(), str(step.partition))
    print_table(evaluation_table(found))
    personal = personal_table(found)
    if personal is not None:
        print_table(personal)


def _run_json(settings: Settings, names: list[str], outcomes: list[Outcome]) -> dict[str, Any]:
    from fl_assets.coordinator.evaluation import evaluation_key, load_evaluation

    store = settings.coordinator_store()
    evaluations = {
        name: load_evaluation(store, name).model_dump(mode="json")
        for name in names
        if store.exists(evaluation_key(name))
    }
    return {"steps": [step_json(outcome) for outcome in outcomes], "evaluations": evaluations}


def compare(
    a: Annotated[str | None, typer.Argument(help="A recipe.")] = None,
    b: Annotated[str | None, typer.Argument(help="Another one.")] = None,
    answer: FormatOption = Format.TABLE,
) -> None:
    """Show every model side by side, or two recipes' models paired by patient.

    Without names: references, centralised, each hospital alone, federated. With two: the
    differences on the same test rows with their intervals.
    """
    settings = Settings.from_environment()
    if a is None:
        _compare_all(settings, answer)
    elif b is None:
        raise OneRecipeError(a)
    else:
        _compare_two(settings, a, b, answer)


def _compare_all(settings: Settings, answer: Format) -> None:
    from fl_assets.coordinator.comparison import load_comparison
    from fl_assets.coordinator.summary import comparison_table, hospital_table

    comparison = load_comparison(settings.coordinator_store())
    if answer == Format.JSON:
        print_json(comparison.model_dump(mode="json"))
        return
    print_table(comparison_table(comparison))
    print_table(hospital_table(comparison))


def _compare_two(settings: Settings, a: str, b: str, answer: Format) -> None:
    from fl_assets.coordinator.pair import compare_recipes, pair_tables, verdict

    pair = compare_recipes(settings, a, b)
    if answer == Format.JSON:
        print_json(pair.model_dump(mode="json") | {"verdict": verdict(pair)})
        return
    for shown in pair_tables(pair):
        print_table(shown)
    out.print(f"\n{verdict(pair)}", soft_wrap=True)


def sweep(
    name: Annotated[str, typer.Argument(help="Of a file in the folder sweeps of the recipes.")],
    save: Annotated[
        str | None, typer.Option(metavar="RECIPE", help="Save the best as a recipe of this name.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget the trials of an interrupted or earlier run.")
    ] = False,
    answer: FormatOption = Format.TABLE,
) -> None:
    """Search a recipe's hyper-parameters, judged on the hospitals' validation rows alone.

    A sweep that was interrupted goes on; one that is done shows its result again.
    """
    from fl_assets.coordinator.sweep_report import load_sweep_result, shown, trial_table
    from fl_assets.federation.sweep import save_recipe
    from fl_assets.pipeline import run_sweep

    settings = Settings.from_environment()
    with dagster(settings) as instance:
        run_sweep(settings, instance, name, fresh=fresh)
    result = load_sweep_result(settings.coordinator_store(), name)
    saved = save_recipe(settings.recipes, save, result.recipe) if save else None
    if answer == Format.JSON:
        print_json(result.model_dump(mode="json"))
        return
    print_table(trial_table(result))
    best = result.trials[result.best]
    out.print(
        f"\nbest       trial {best.number + 1}: {result.sweep.objective} {best.objective:.4f}"
    )
    for path, value in best.values.items():
        out.print(f"           {path} {shown(value)}")
    if saved is not None:
        out.print(f"saved      {saved}", soft_wrap=True)
        out.print(f"next       `fla run {saved.stem}` trains it")
    else:
        new = f"{result.sweep.recipe}-tuned"
        out.print(f"next       `fla sweep {name} --save {new}` makes it a recipe")

"""What the commands that run Dagster share: opening it, and showing its steps."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from fl_assets.cli.output import err
from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

    from fl_assets.pipeline import Outcome, Step


class StepsFailedError(FlAssetsError):
    """Steps of a job failed; :func:`tell` has said why, where each ended."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        failed = [_title(outcome.step) for outcome in outcomes if outcome.failure is not None]
        super().__init__(f"{'; '.join(failed)} failed, for the reasons above")


@contextmanager
def dagster(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open the Dagster instance in which the UI shows the runs."""
    import dagster as dg

    from fl_assets.pipeline import prepare_dagster_home

    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    prepare_dagster_home(settings)
    with dg.DagsterInstance.get() as instance:
        yield instance


def tell(outcome: Outcome) -> None:
    """Show a step that ended."""
    took = f"  {outcome.seconds:.1f} s" if outcome.seconds else ""
    mark = "[green]✓[/]" if outcome.failure is None else "[red]✗[/]"
    err.print(f"{mark} {escape(_title(outcome.step))}: {outcome.status}{took}", soft_wrap=True)
    if outcome.failure is not None:
        err.print(f"    {escape(outcome.failure)}", soft_wrap=True)


def _title(step: Step) -> str:
    assets = ", ".join(step.assets)
    return f"[{step.partition}] {assets}" if step.partition else assets


def announce(step: Step) -> None:
    """Show a step that begins."""
    err.print(f"[dim]  {escape(_title(step))} ...[/]", soft_wrap=True)


def step_json(outcome: Outcome) -> dict[str, Any]:
    """Return a step for a program."""
    return {
        "assets": outcome.step.assets,
        "partition": outcome.step.partition,
        "status": outcome.status,
        "materialised": outcome.materialised,
        "failure": outcome.failure,
        "seconds": round(outcome.seconds, 2),
    }

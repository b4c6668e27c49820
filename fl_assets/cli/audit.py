"""The command ``audit``: what attacks on membership show of a recipe's latest model."""

from __future__ import annotations

from typing import Annotated

import typer

from fl_assets.cli.output import Format, FormatOption, out, print_json, print_table
from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings


class NotAuditedError(FlAssetsError):
    """A recipe whose latest model has no audit."""

    def __init__(self, recipe: str) -> None:
        super().__init__(
            f"the latest model of recipe {recipe} was never audited: `fla run {recipe}` does it"
        )


def audit(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe.")],
    answer: FormatOption = Format.TABLE,
) -> None:
    """Show how well an attacker can tell whom a recipe's latest model was trained on.

    The audit itself is a step of `fla demo` and `fla run`.
    """
    from fl_assets.coordinator.audit import find_audit
    from fl_assets.coordinator.audit_gates import audit_gates
    from fl_assets.coordinator.audit_report import audit_table
    from fl_assets.coordinator.training import load_release
    from fl_assets.federation.recipe import require_recipe

    settings = Settings.from_environment()
    store = settings.coordinator_store()
    found = find_audit(store, recipe)
    if found is None:
        require_recipe(settings.recipes, recipe)
    if found is None or not found.is_of(release := load_release(store, recipe)):
        raise NotAuditedError(recipe)
    gates = audit_gates(store, release, settings.consortium.promotion.max_membership_auc)
    if answer == Format.JSON:
        verdicts = [gate.model_dump(mode="json") for gate in gates]
        print_json(found.model_dump(mode="json") | {"gates": verdicts})
        return
    print_table(audit_table(found))
    for gate in gates:
        verdict = "passed" if gate.passed else "FAILED"
        out.print(f"{verdict}  {gate.gate}: {gate.found} (asked: {gate.asked})", soft_wrap=True)

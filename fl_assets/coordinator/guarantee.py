"""What a release says of privacy, in words that hold."""

from __future__ import annotations

from collections.abc import Mapping

from fl_assets.federation.recipe import Recipe
from fl_assets.federation.statement import PrivacyStatement
from fl_assets.privacy.configs import PrivacyConfig

NONE = "none: no noise was added, updates and metrics left the sites as they were"
MASKED = (
    "none by noise; the server saw the sum of each round's updates and no single one, and each "
    "site's own losses and validation figures"
)


def guarantee(recipe: Recipe, statements: Mapping[str, PrivacyStatement]) -> str:
    """Return what a run guarantees, by the statements of its hospitals.

    Args:
        recipe: of the run.
        statements: by hospital; one that was away at the end has none, and for it the recipe's
            epsilon holds, which it reserved.
    """
    asked = recipe.privacy
    if asked is None:
        return NONE if recipe.secure_aggregation is None else MASKED
    told = [f"{name} {_epsilon(s)}" for name, s in sorted(statements.items())]
    predictable = sorted(n for n, s in statements.items() if s.noise == "predictable")
    parts = [
        f"({asked.epsilon:g}, {asked.delta:g})-differential privacy at every hospital, for adding "
        f"or removing one patient's row, over {_what(asked)}",
        f"by hospital {', '.join(told)}" if told else "",
        "the server saw the sum of each round's updates and no single one"
        if recipe.secure_aggregation
        else "",
        f"NOT at {', '.join(predictable)}, whose noise had a seed and protects nobody"
        if predictable
        else "",
    ]
    return "; ".join(part for part in parts if part)


def _what(asked: PrivacyConfig) -> str:
    if asked.evaluation_epsilon is None:
        return "everything that the training released"
    return (
        "the updates of the training, and what each hospital says with the noised figures of its "
        f"validation rows, of epsilon {asked.evaluation_epsilon:g}, which it released as well"
    )


def _epsilon(statement: PrivacyStatement) -> str:
    if statement.epsilon is None:
        return "nothing"
    replaced = statement.replace_one
    more = "" if replaced is None else f" (replacing one {replaced:.3g})"
    return f"{statement.epsilon:.4g}{more}, lifetime {statement.lifetime:.3g} of {statement.cap:g}"

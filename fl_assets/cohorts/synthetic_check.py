"""Does a synthetic recipe fit the cohort it belongs to? Asked when the cohort is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from fl_assets.cohorts.synthetic_spec import Choice, Effects, Flag, Generator, SyntheticRecipe

if TYPE_CHECKING:  # the cohort's own validator calls this module
    from fl_assets.cohorts.spec import CohortSpec

Values = Mapping[str, tuple[str | float, ...] | None]


def value_lists(spec: CohortSpec) -> dict[str, tuple[str | float, ...] | None]:
    """Return the allowed values of each column and of the label; None for a number."""
    values: dict[str, tuple[str | float, ...] | None] = {}
    for column in spec.columns:
        if column.kind == "number":
            values[column.name] = None
        else:
            values[column.name] = column.categories if column.kind == "category" else (0.0, 1.0)
    values[spec.label.column] = (0.0, 1.0)
    return values


def check_recipe(recipe: SyntheticRecipe, spec: CohortSpec) -> None:
    """Check that a recipe draws every column of a cohort, in an order that works.

    Raises:
        ValueError: it does not; the message names the key and the column.
    """
    _check_coverage([generator.name for generator in recipe.columns], spec.column_names)
    values = value_lists(spec)
    drawn: dict[str, tuple[str | float, ...] | None] = {}
    for generator in recipe.columns:
        where = f"synthetic.columns.{generator.name}"
        _check_generator(generator, spec, where)
        for effects in _effects(generator):
            _check_effects(effects, drawn, where)
        drawn[generator.name] = values[generator.name]
    _check_effects(recipe.label, drawn, "synthetic.label")
    _check_missing(recipe, spec, values)


def _check_coverage(named: list[str], columns: list[str]) -> None:
    unknown = sorted(set(named) - set(columns))
    if unknown:
        raise ValueError(f"synthetic.columns: {', '.join(unknown)} not among the cohort's columns")
    lacking = sorted(set(columns) - set(named))
    if lacking:
        raise ValueError(f"synthetic.columns: no generator for {', '.join(lacking)}")
    if len(named) != len(columns):
        twice = sorted({name for name in named if named.count(name) > 1})
        raise ValueError(f"synthetic.columns: more than one generator for {', '.join(twice)}")


def _check_generator(generator: Generator, spec: CohortSpec, where: str) -> None:
    column = spec.column(generator.name)
    kind = generator.kind if isinstance(generator, Choice | Flag) else "number"
    if kind != column.kind:
        raise ValueError(f"{where}: generator {generator.kind} cannot draw a {column.kind}")
    if isinstance(generator, Choice):
        if column.kind == "category" and set(generator.scores) != set(column.categories):
            odd = sorted(set(generator.scores) ^ set(column.categories))
            raise ValueError(f"{where}.scores: must hold each category once; see {', '.join(odd)}")
    elif (
        not isinstance(generator, Flag)
        and column.kind == "number"
        and (generator.low < column.range[0] or generator.high > column.range[1])
    ):
        raise ValueError(f"{where}: draws values outside the range {list(column.range)}")


def _effects(generator: Generator) -> Iterable[Effects]:
    if isinstance(generator, Flag):
        yield generator.score.by
    elif isinstance(generator, Choice):
        yield from (score.by for score in generator.scores.values())
    elif generator.kind == "mixture":
        for mode in generator.modes:
            yield from (mode.mean.by, mode.sd.by, mode.log_weight.by)


def _check_effects(effects: Effects, drawn: Values, where: str) -> None:
    for name, effect in effects.items():
        if name not in drawn:
            raise ValueError(f"{where}: uses {name}, which is no column drawn before it")
        values = drawn[name]
        if values is not None:
            strange = [str(value) for value in effect if value not in values]
            if strange:
                raise ValueError(f"{where}: {', '.join(strange)} not among the values of {name}")
            continue
        knots = [knot for knot in effect if not isinstance(knot, str)]
        if len(knots) < len(effect) or not knots or knots != sorted(knots):
            raise ValueError(f"{where}: the knots of {name} must be ascending numbers")


def _check_missing(recipe: SyntheticRecipe, spec: CohortSpec, values: Values) -> None:
    for missing in recipe.missing:
        where = f"synthetic.missing.{missing.name}"
        if missing.name not in spec.column_names:
            raise ValueError(f"{where}: not among the cohort's columns")
        if not spec.column(missing.name).nullable:
            raise ValueError(f"{where}: the column is not nullable")
        markers = spec.missing_markers + spec.column(missing.name).missing_markers
        if missing.marker not in markers:
            raise ValueError(f"{where}.marker: {missing.marker!r} not among missing_markers")
        _check_effects(missing.score.by, values, where)

"""Deals one data set to simulated hospitals, each with patients of its own kind (non-IID).

Every split looks at the rows in the order of their ids, so that the same rows in another order give
each patient the same hospital. Only ``dirichlet`` looks at the label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator as Random
from numpy.typing import NDArray

from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, NumberColumn
from fl_assets.cohorts.split_report import SplitReport, report_split
from fl_assets.consortium import Consortium
from fl_assets.errors import FlAssetsError

Ints = NDArray[np.intp]
Floats = NDArray[np.float64]

DEMOGRAPHIC_NOISE = 1.5
"""Scale of the noise on the risk score: larger means more alike hospitals."""

FEATURE_NOISE = 0.2
"""Scale of the noise on the first principal component, in its standard deviations."""

QUANTITY_EXPONENT = 1.5
"""Hospital k of the file gets rows in proportion to ``k ** -exponent``."""

SKEW_OLD, SKEW_YOUNG = 60.0, 50.0
"""Ages of the ``label_skew`` split, in years."""


class SplitError(FlAssetsError):
    """The data set cannot be dealt to the hospitals as the consortium asks."""


@dataclass(frozen=True)
class Deal:
    """A split.

    Attributes:
        hospitals: names in the order of the consortium.
        assignment: ``[rows]``, per row of the frame the index of its hospital in ``hospitals``.
        notes: where the split could not give what was asked, in plain words.
        report: the self-check.
    """

    hospitals: tuple[str, ...]
    assignment: Ints
    notes: list[str]
    report: SplitReport


@dataclass(frozen=True)
class _Task:
    """What a split works on; rows in the order of their ids."""

    frame: pd.DataFrame
    spec: CohortSpec
    consortium: Consortium
    sizes: Ints
    random: Random
    notes: list[str]


def deal(frame: pd.DataFrame, spec: CohortSpec, consortium: Consortium) -> Deal:
    """Deal the rows of a data set to the consortium's hospitals.

    Args:
        frame: validated rows with the cohort's columns, numbers as float, ids unique.
        spec: the cohort.
        consortium: hospitals with their shares; ``simulation`` names the split and its seed.

    Raises:
        SplitError: no rows, or the split does not work with this number of hospitals.
    """
    if frame.empty:
        raise SplitError("the data set has no rows to deal to hospitals: load it first")
    ids = frame[spec.key_column].astype(str).to_numpy(dtype=np.str_)
    by_id = np.argsort(ids, kind="stable")
    shares = np.array([hospital.share for hospital in consortium.hospitals])
    task = _Task(
        frame=frame.iloc[by_id],
        spec=spec,
        consortium=consortium,
        sizes=apportion(len(frame), shares),
        random=np.random.default_rng(consortium.simulation.seed),
        notes=[],
    )
    assignment = np.empty(len(frame), dtype=np.intp)
    assignment[by_id] = _SPLITS[consortium.simulation.split](task)
    names = consortium.hospital_names
    report = report_split(frame, split_frame(frame, assignment, names), spec)
    return Deal(tuple(names), assignment, task.notes, report)


def split_frame(
    frame: pd.DataFrame, assignment: Ints, hospitals: list[str]
) -> dict[str, pd.DataFrame]:
    """Return each hospital's rows, by its name; ``assignment`` as in :class:`Deal`."""
    return {name: frame[assignment == index] for index, name in enumerate(hospitals)}


def apportion(total: int, weights: Floats) -> Ints:
    """Divide ``total`` in proportion to ``weights`` into whole numbers that sum to it.

    Largest remainders (Hamilton's method); equal remainders go to the earlier one.
    """
    exact = total * weights / weights.sum()
    whole: Ints = np.floor(exact).astype(np.intp)
    # Rounded, so that equal weights are not told apart by their last bits.
    order = np.argsort(-np.round(exact - whole, 9), kind="stable")
    whole[order[: total - whole.sum()]] += 1
    return whole


def _demographic(task: _Task) -> Ints:
    """By age and risk flags: the first hospital prefers high risk, the second low, and so on."""
    score = _age(task)
    for flag in task.spec.risk_flags:
        score = score + task.frame[flag].fillna(0).to_numpy(dtype=np.float64)
    return _take_turns(score / DEMOGRAPHIC_NOISE, task)


def _feature_skew(task: _Task) -> Ints:
    """By the direction in which the patients differ most, the older end first; little noise."""
    table = _standardised(task)
    _, axes = np.linalg.eigh(table.T @ table)
    component = table @ axes[:, -1]
    spread = component.std()
    # A principal axis has no sign of its own: point it to the older patients.
    sign = -1.0 if component @ _age(task) < 0 else 1.0
    scale = spread * FEATURE_NOISE if spread > 0 else 1.0
    return _take_turns(sign * component / scale, task)


def _label_skew(task: _Task) -> Ints:
    """Old or flagged patients to the first hospital, young ones to the second, the rest third."""
    if len(task.sizes) != 3:
        raise SplitError(
            f"split label_skew is for exactly 3 hospitals and consortium.yaml has "
            f"{len(task.sizes)}: choose another simulation.split or name 3 hospitals"
        )
    age = task.frame[task.spec.age_column].to_numpy(dtype=np.float64)
    flagged = (task.frame[list(task.spec.risk_flags)] == 1).any(axis=1).to_numpy(dtype=bool)
    high = (age > SKEW_OLD) | flagged
    hospitals = np.full(len(age), 2, dtype=np.intp)
    hospitals[_sample(np.flatnonzero(high), 0, task)] = 0
    hospitals[_sample(np.flatnonzero(~high & (age < SKEW_YOUNG)), 1, task)] = 1
    return hospitals


def _quantity_skew(task: _Task) -> Ints:
    """Alike patients, unequal numbers: sizes follow a power law and ignore the shares."""
    ranks = np.arange(1, len(task.sizes) + 1, dtype=np.float64)
    sizes = apportion(len(task.frame), ranks**-QUANTITY_EXPONENT)
    return task.random.permutation(np.repeat(np.arange(len(sizes)), sizes))


def _dirichlet(task: _Task) -> Ints:
    """Unequal label rates at the sizes that the shares ask for.

    The positives' proportions over hospitals are drawn from ``Dir(alpha * n * share)``; negatives
    fill each hospital up. Degenerates to equal label rates for a large alpha. Hsu et al. 2019
    (arXiv:1909.06335, section 3) draw the label's proportions for each hospital instead: with a
    label this rare that leaves nearly all hospitals without a positive.
    """
    label = task.frame[task.spec.label.column].to_numpy(dtype=bool)
    fractions = task.sizes / task.sizes.sum()
    alpha = np.maximum(task.consortium.simulation.alpha * len(fractions) * fractions, 1e-9)
    positives = _fit(apportion(int(label.sum()), task.random.dirichlet(alpha)), task)
    hospitals = np.empty(len(label), dtype=np.intp)
    for mask, counts in ((label, positives), (~label, task.sizes - positives)):
        hospitals[mask] = task.random.permutation(np.repeat(np.arange(len(counts)), counts))
    return hospitals


_SPLITS: dict[str, Callable[[_Task], Ints]] = {
    "demographic": _demographic,
    "label_skew": _label_skew,
    "feature_skew": _feature_skew,
    "quantity_skew": _quantity_skew,
    "dirichlet": _dirichlet,
}


def _take_turns(score: Floats, task: _Task) -> Ints:
    """Deal by preference: hospitals choose in turn, odd ones by ``score``, even ones by its minus.

    Each draws its number of rows without replacement with weights ``exp(+-score)``, which is the
    top of the scores plus Gumbel noise (Kool et al. 2019, arXiv:1903.06059, section 2.3). The last
    hospital takes what remains. So the extremes go to the hospitals named first.
    """
    hospitals = np.full(len(score), len(task.sizes) - 1, dtype=np.intp)
    left = np.arange(len(score))
    for index, size in enumerate(task.sizes[:-1]):
        preference = score[left] if index % 2 == 0 else -score[left]
        order = np.argsort(-(preference + task.random.gumbel(size=len(left))), kind="stable")
        hospitals[left[order[:size]]] = index
        left = np.delete(left, order[:size])
    return hospitals


def _sample(pool: Ints, index: int, task: _Task) -> Ints:
    wanted = int(task.sizes[index])
    if len(pool) < wanted:
        task.notes.append(
            f"{task.consortium.hospital_names[index]} gets {len(pool)} rows instead of {wanted}: "
            f"no more patients are of its kind; the last hospital takes the others"
        )
    return task.random.permutation(pool)[:wanted]


def _fit(positives: Ints, task: _Task) -> Ints:
    """Move positives from hospitals that cannot hold them to those with room."""
    excess = int(np.maximum(positives - task.sizes, 0).sum())
    if not excess:
        return positives
    task.notes.append(
        f"{excess} positives went to another hospital than drawn: the drawn one was full"
    )
    held = np.minimum(positives, task.sizes)
    return held + apportion(excess, (task.sizes - held).astype(np.float64))


def _age(task: _Task) -> Floats:
    age_column = task.spec.age_column
    column = next(number for number in task.spec.numbers if number.name == age_column)
    return _scaled(task.frame, column)


def _scaled(frame: pd.DataFrame, column: NumberColumn) -> Floats:
    public = column.public
    fill = public.center if public.fill is None else public.fill
    values = frame[column.name].fillna(fill).to_numpy(dtype=np.float64)
    return (values - public.center) / public.scale


def _standardised(task: _Task) -> Floats:
    """Return every column with mean 0 and variance 1, categories one indicator each."""
    parts: list[Any] = []
    for column in task.spec.columns:
        values = task.frame[column.name]
        if isinstance(column, NumberColumn):
            parts.append(_scaled(task.frame, column))
        elif isinstance(column, CategoryColumn):
            parts.extend((values == category).to_numpy(float) for category in column.categories)
        else:
            parts.append(values.fillna(0).to_numpy(dtype=np.float64))
    table = np.column_stack(parts)
    table -= table.mean(axis=0)
    spread = table.std(axis=0)
    return np.asarray(table / np.where(spread > 0, spread, 1.0))

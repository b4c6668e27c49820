"""Attack scores as counts of people in public cells: what a hospital may tell of an attack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fl_assets.config import StrictModel
from fl_assets.learning.inputs import Bools, Floats
from fl_assets.learning.metrics import Ints
from fl_assets.privacy.attacks import Attack, likelihood_ratio, loss_threshold

CELLS = 64

EDGES: Mapping[Attack, Floats] = {
    # Even in the confidence, of which the loss is a function.
    Attack.LOSS_THRESHOLD: loss_threshold(np.linspace(-16, 16, CELLS - 1)),
    # Even around no evidence, then by order of magnitude: from 0.02 to 300 nats.
    Attack.LIKELIHOOD_RATIO: 0.05 * np.sinh(np.linspace(-9.4, 9.4, CELLS - 1)),
}
"""The edges between the cells of each attack's score. They must not depend on data: a threshold
that is chosen on the rows it is judged by shows an epsilon that is not there."""


class ScoreCounts(StrictModel):
    """People by cell of an attack's score, from the lowest to the highest.

    Attributes:
        members: trained on, per cell.
        others: not trained on, per cell.
    """

    members: tuple[int, ...]
    others: tuple[int, ...]


class AuditCounts(StrictModel):
    """Counts of every attack on one model.

    The two labels are counted apart, and never together with one of them: a cell that is merged
    away in one table could be had by subtraction from the other.

    Attributes:
        positives: of the rows of label 1, by attack; empty where they are too few to be told.
        negatives: of the rows of label 0, by attack.
    """

    positives: dict[Attack, ScoreCounts]
    negatives: dict[Attack, ScoreCounts]

    def floored(self, minimum: int, with_positives: bool) -> AuditCounts:
        """Return what may leave, every table merged by :func:`floored`."""
        told = self.positives if with_positives else {}
        return AuditCounts(
            positives={attack: floored(counts, minimum) for attack, counts in told.items()},
            negatives={a: floored(counts, minimum) for a, counts in self.negatives.items()},
        )


def count_attacks(
    y: Floats, member: Bools, target: Floats, shadows: Floats, inside: Bools
) -> AuditCounts:
    """Attack a model in every way and count the rows by score.

    Args:
        y: labels 0/1, [n].
        member: whether the model was trained on the row, [n].
        target: its confidences, [n].
        shadows: confidences of the shadow models, [k, n].
        inside: whether a shadow model was trained on the row, [k, n].

    Raises:
        TooFewShadowsError: a row with fewer than two shadow models in or out.
    """

    def of_label(label: int) -> dict[Attack, ScoreCounts]:
        rows = y == label
        scores = {
            Attack.LOSS_THRESHOLD: loss_threshold(target[rows]),
            Attack.LIKELIHOOD_RATIO: likelihood_ratio(
                target[rows], shadows[:, rows], inside[:, rows]
            ),
        }
        return {a: count_scores(a, score, member[rows]) for a, score in scores.items()}

    return AuditCounts(positives=of_label(1), negatives=of_label(0))


def count_scores(attack: Attack, score: Floats, member: Bools) -> ScoreCounts:
    """Count people by the public cell of their score.

    Args:
        attack: whose score it is.
        score: higher is more likely a member, [n].
        member: whether the row was trained on, [n].
    """
    return _counts(EDGES[attack].searchsorted(score, "right"), member, CELLS)


def exact_counts(score: Floats, member: Bools) -> ScoreCounts:
    """Count people by the score itself, a cell for each value; for rows that need not leave."""
    values, cell = np.unique(score, return_inverse=True)
    return _counts(cell, member, len(values))


def _counts(cell: Ints, member: Bools, cells: int) -> ScoreCounts:
    inside, outside = (np.bincount(cell[side], minlength=cells) for side in (member, ~member))
    return ScoreCounts(members=tuple(inside.tolist()), others=tuple(outside.tolist()))


def total(counts: Iterable[ScoreCounts]) -> ScoreCounts:
    """Add up counts over the same cells, at least one."""
    summed = np.sum([(c.members, c.others) for c in counts], axis=0)
    return ScoreCounts(members=tuple(summed[0].tolist()), others=tuple(summed[1].tolist()))


def floored(counts: ScoreCounts, minimum: int) -> ScoreCounts:
    """Merge neighbouring cells until each that is not empty stands for enough people.

    People move to the next lower cell, the last few to the lowest one that is filled. Where they
    go depends on how many there are and not on who is a member, so it shows no membership that is
    not there. All cells are empty where there are fewer than ``minimum`` people altogether.

    Args:
        counts: to be released.
        minimum: people, members and others together.
    """
    pairs = np.stack([counts.members, counts.others], axis=1)
    merged, held, lowest = np.zeros_like(pairs), np.zeros_like(pairs[0]), None
    for cell in reversed(range(len(pairs))):
        held = held + pairs[cell]
        if held.sum() >= minimum:
            merged[cell], held, lowest = held, np.zeros_like(held), cell
    if lowest is not None:
        merged[lowest] += held
    members, others = merged.T.tolist()
    return ScoreCounts(members=tuple(members), others=tuple(others))

"""What an attack on membership shows: area, hits at few false alarms, epsilon; from counts alone.

A hospital counts its rows by attack score in cells that are fixed and public; counts of several
hospitals add up, and everything below follows from the sum.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import beta

from fl_assets.config import StrictModel
from fl_assets.learning.inputs import Floats
from fl_assets.learning.intervals import auroc_interval
from fl_assets.learning.metrics import Ints, auroc
from fl_assets.privacy.score_counts import ScoreCounts

LEVEL = 0.95
FEW_FALSE_ALARMS = 0.01


class AttackResult(StrictModel):
    """What an attack shows of one group of people.

    Attributes:
        members, others: people that were trained on, and that were not.
        auroc, auroc_low, auroc_high: probability that a member has the higher score, ties counting
            half, with its 95 % interval (DeLong); 0.5 is chance.
        hits, hits_low, hits_high: true-positive rate at the best threshold with a false-positive
            rate of at most 1 %, with its 95 % interval (Clopper & Pearson) at that threshold.
        epsilon: lower bound that the attack shows, 0 where it shows nothing, see
            :func:`epsilon_shown`.
        roc: false- and true-positive rate of every threshold, from (0, 0) to (1, 1).
    """

    members: int
    others: int
    auroc: float
    auroc_low: float
    auroc_high: float
    hits: float
    hits_low: float
    hits_high: float
    epsilon: float
    roc: tuple[tuple[float, float], ...]


def judge(counts: ScoreCounts, delta: float = 0.0, bounds: int = 1) -> AttackResult | None:
    """Return what counts show, None without members or without others.

    Args:
        counts: of one attack and one group.
        delta: at which epsilon is bounded.
        bounds: of epsilon, of which the largest will be looked at; each gets its part of the error
            (Bonferroni), so that all of them hold together.
    """
    inside, outside = np.array(counts.members), np.array(counts.others)
    m, n = int(inside.sum()), int(outside.sum())
    if not m + n:
        return None
    # People of one cell are ties, whatever its width.
    cells = np.arange(len(inside)) / len(inside)
    y = np.repeat([1, 0], [m, n])
    score = np.concatenate([cells.repeat(inside), cells.repeat(outside)])
    area, interval = auroc(y, score), auroc_interval(y, score, LEVEL)
    if area is None or interval is None:
        return None
    true, false = (np.append(0, side[::-1].cumsum()) for side in (inside, outside))
    hits = true[false <= FEW_FALSE_ALARMS * n + 1e-9].max()
    hits_low, hits_high = clopper_pearson(hits, m, (1 - LEVEL) / 2)
    return AttackResult(
        members=m,
        others=n,
        auroc=area,
        auroc_low=interval[0],
        auroc_high=interval[1],
        hits=float(hits / m),
        hits_low=float(hits_low),
        hits_high=float(hits_high),
        epsilon=epsilon_shown(true, false, delta, 1 - (1 - LEVEL) / bounds),
        roc=tuple(zip((false / n).tolist(), (true / m).tolist(), strict=True)),
    )


def clopper_pearson(successes: Ints, trials: int, tail: float) -> tuple[Floats, Floats]:
    """Bounds of rates, each exceeded with at most probability ``tail`` (Clopper & Pearson 1934).

    Args:
        successes: of the trials, an array of any shape.
        trials: at least one.
        tail: error probability on each side.

    Returns:
        Lower and upper bounds, of that shape.
    """
    low = np.where(successes > 0, beta.ppf(tail, successes, trials - successes + 1), 0.0)
    high = np.where(successes < trials, beta.ppf(1 - tail, successes + 1, trials - successes), 1.0)
    return low, high


def epsilon_shown(true: Ints, false: Ints, delta: float = 0.0, level: float = LEVEL) -> float:
    """Return a lower bound of epsilon from an attack's hits and false alarms.

    A mechanism that is (epsilon, delta)-private has ``TPR <= exp(epsilon) FPR + delta`` at every
    threshold, and the same for those below it (Jagielski et al. 2020, "Auditing differentially
    private machine learning", section 3). The rates are put at their bounds by Clopper and
    Pearson, each with an error of ``(1 - level) / (2 thresholds)``, so that all of them hold
    together (Nasr et al. 2021, "Adversary instantiation", section IV). It degenerates to 0 where
    no threshold does better than chance.

    The bounds take the rows for independent trials. Those of one trained model are not quite, so
    the figure is an indication; the strict ways are many trainings, or canaries that are put in by
    coin flips (Steinke et al. 2023).

    Args:
        true, false: members and others at or above each threshold, ascending from none to all of
            them; the thresholds were not chosen on these people.
        delta: of the claim.
        level: confidence over all thresholds.
    """
    tail = (1 - level) / (2 * max(len(true) - 2, 1))
    hits, _ = clopper_pearson(true[1:-1], true[-1], tail)
    _, alarms = clopper_pearson(false[1:-1], false[-1], tail)
    likely = np.concatenate([hits, 1 - alarms]) - delta
    unlikely = np.concatenate([alarms, 1 - hits])
    shown = likely > unlikely
    ratios = likely[shown] / unlikely[shown]
    return float(np.log(ratios.max(initial=1.0)))

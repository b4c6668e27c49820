"""Spreads over folds, paired differences and bars of a cross-validated comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import starmap
from statistics import fmean, stdev

from benchmarks.bars import Bar
from benchmarks.methods import AGE, CENTRAL, FEDAVG, FEDPROX, NO_FLAG, FoldResult
from fl_assets.learning.intervals import PairedDifference, paired_difference
from fl_assets.learning.metrics import Metric

POOLED = "pooled"


@dataclass(frozen=True)
class Spread:
    """Mean over the folds in which a figure exists, and sample deviation (None of one)."""

    n: int
    mean: float
    sd: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.sd is None else f" ± {self.sd:.3f}")


def spread(figures: Iterable[float | None]) -> Spread | None:
    """Summarise a figure over folds; None where no fold has it."""
    present = [figure for figure in figures if figure is not None]
    if not present:
        return None
    return Spread(len(present), fmean(present), stdev(present) if len(present) > 1 else None)


def verdict(found: PairedDifference) -> str:
    """Return what the interval of a difference lets one say."""
    if found.low is not None and found.low > 0:
        return "gain"
    if found.high is not None and found.high < 0:
        return "loss"
    return "no gain shown"


@dataclass(frozen=True)
class Difference:
    """AUROC of ``a`` minus ``b`` on the same test rows: ``pooled`` or one hospital's own."""

    a: str
    b: str
    where: str
    found: PairedDifference

    @property
    def verdict(self) -> str:
        """What the interval lets one say."""
        return verdict(self.found)


def values(results: list[FoldResult], method: str, where: str = POOLED) -> list[float | None]:
    """Return a method's AUROC per fold on the pooled rows, or on a hospital's own."""
    if where == POOLED:
        return [result.pooled[method][Metric.AUROC] for result in results]
    return [result.own[method][where] for result in results]


def compare(results: list[FoldResult]) -> list[Difference]:
    """Return the paired differences, with Nadeau and Bengio's interval for overlapping folds."""
    hospitals = list(results[0].positives)
    wanted = [
        (FEDAVG, CENTRAL, POOLED),
        (FEDAVG + NO_FLAG, CENTRAL + NO_FLAG, POOLED),
        (FEDAVG, AGE, POOLED),
        (FEDPROX, CENTRAL, POOLED),
        *((FEDAVG, f"{name} alone", where) for name in hospitals for where in (POOLED, name)),
    ]
    ratio = results[0].test_to_train

    def difference(a: str, b: str, where: str) -> Difference:
        pair = values(results, a, where), values(results, b, where)
        return Difference(a, b, where, paired_difference(*pair, test_to_train=ratio))

    return list(starmap(difference, wanted))


def judge(results: list[FoldResult], differences: list[Difference]) -> list[Bar]:
    """Return the bars with their figures, which are means over folds."""

    def mean(method: str, metric: Metric = Metric.AUROC) -> float:
        found = spread(result.pooled[method][metric] for result in results)
        return math.nan if found is None else found.mean

    def gap(a: str, b: str) -> float:
        return next(d.found.mean for d in differences if (d.a, d.b, d.where) == (a, b, POOLED))

    sensitivity = Metric.SENSITIVITY_AT_80_SPECIFICITY
    return [
        Bar(f"AUROC of {CENTRAL}{NO_FLAG}", mean(CENTRAL + NO_FLAG), 0.840),
        Bar(f"AUROC of {CENTRAL}", mean(CENTRAL), 0.845),
        Bar(f"AUROC of {FEDAVG} minus {CENTRAL}", gap(FEDAVG, CENTRAL), -0.003),
        Bar(f"AUROC of {FEDAVG} minus {AGE}", gap(FEDAVG, AGE), 0.008),
        Bar(f"AUROC of {FEDPROX}", mean(FEDPROX), 0.838),
        Bar(f"sensitivity of {FEDAVG} at 80 % specificity", mean(FEDAVG, sensitivity), 0.70),
        Bar(f"ECE of {FEDAVG}", mean(FEDAVG, Metric.ECE), 0.02, at_most=True),
    ]

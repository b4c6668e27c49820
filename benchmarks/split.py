"""Where the seconds of a federated run went."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from benchmarks.setting import table
from fl_assets.federation.job import FederationJob
from fl_assets.federation.rounds import RoundReport
from fl_assets.federation.runtimes.base import Runtime

_LEGEND = (
    "Seconds. Ends: start, last validation, stop. Training: of each round's slowest site. Other: "
    "messages, waiting and, in process,\nthe other sites' training. Of the rounds median "
    "(maximum); idle: without the slowest site's training; gap: last reply to next message."
)


@dataclass(frozen=True)
class Spread:
    """Median and largest of the seconds of several rounds."""

    median: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Summarise seconds."""
        return cls(median(seconds), max(seconds))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.max:.3g})"


@dataclass(frozen=True)
class Split:
    """The seconds of one run, end to end.

    Attributes:
        total: of all.
        ends: of these, before the first round and after the last one, which is when everything
            is started and stopped and the sites validate the last model.
        training: in each round of its slowest site, all rounds together.
        aggregation: all rounds together.
        other: within the rounds; messages and waiting, and the other sites where they take turns.
        between: from one round's end to the next one's beginning, all together; checkpoints, say.
        a_round: from one round's end to the next one's.
        idle: of a round without the training of its slowest site.
        gap: from a round's last reply to the next one's first message; None of a single round.
    """

    total: float
    ends: float
    training: float
    aggregation: float
    other: float
    between: float
    a_round: Spread
    idle: Spread
    gap: Spread | None

    @classmethod
    def of(cls, total: float, reports: Sequence[RoundReport]) -> Split:
        """Split the seconds of a run with at least one round."""
        slowest = [max(site.seconds for site in r.sites.values()) for r in reports]
        # A gap begins with the aggregation that the round before it counts too.
        gaps = [report.gap for report in reports[1:] if report.gap is not None]
        between = [gap - r.aggregation for gap, r in zip(gaps, reports, strict=False)]
        within = sum(report.seconds for report in reports)
        aggregation = sum(report.aggregation for report in reports)
        whole = [r.seconds + b for r, b in zip(reports, [0.0, *between], strict=True)]
        return cls(
            total=total,
            ends=total - within - sum(between),
            training=sum(slowest),
            aggregation=aggregation,
            other=within - sum(slowest) - aggregation,
            between=sum(between),
            a_round=Spread.of(whole),
            idle=Spread.of([w - s for w, s in zip(whole, slowest, strict=True)]),
            gap=Spread.of(gaps) if gaps else None,
        )


def measure(runtime: Runtime, job: FederationJob) -> Split:
    """Run a job and split its seconds."""
    start = time.perf_counter()
    result = runtime.run(job)
    return Split.of(time.perf_counter() - start, result.history.rounds)


def split_table(title: str, found: Sequence[tuple[int, str, int, Split]]) -> Table:
    """Return a table of runs: hospitals, runtime and rounds of each, and its seconds."""
    parts = ["in all", "ends", "training", "aggregation", "other", "between"]
    spreads = ["a round", "idle", "gap"]
    columns = ["sites", "runtime", "rounds", *parts, *spreads]
    rows = table(f"{title}\n{_LEGEND}", columns, text_columns=2)
    for hospitals, runtime, rounds, split in found:
        whole, within = (split.total, split.ends, split.training), (split.aggregation, split.other)
        cells = [f"{seconds:.2f}" for seconds in (*whole, *within, split.between)]
        gap = "" if split.gap is None else str(split.gap)
        rows.add_row(
            str(hospitals), runtime, str(rounds), *cells, str(split.a_round), str(split.idle), gap
        )
    return rows

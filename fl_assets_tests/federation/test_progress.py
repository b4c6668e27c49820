import io

import pytest

from fl_assets.federation.progress import ProgressLine, describe
from fl_assets.federation.rounds import Phase, RoundReport, SiteReport


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def report(
    round_: int,
    rounds: int,
    auroc: float | None = 0.8,
    gap: float | None = None,
    rejected: tuple[str, ...] = (),
    **dropouts: str,
) -> RoundReport:
    site = SiteReport(
        examples=10,
        train_loss=0.25,
        validation_examples=5,
        validation_loss=0.5,
        validation_auroc=auroc,
        seconds=0.1,
        partitions="p",
    )
    return RoundReport(
        round=round_,
        rounds=rounds,
        sites={"a": site, "b": site},
        dropouts=dropouts,
        rejected=rejected,
        seconds=0.123,
        aggregation=0.001,
        gap=gap,
        sent=0,
        received=0,
    )


def shown(rounds: int, stream: io.StringIO, phase: Phase = "training") -> str:
    line = ProgressLine(stream)
    for round_ in range(1, rounds + 1):
        line(report(round_, rounds), phase)
    return stream.getvalue()


def test_a_round_in_one_line() -> None:
    assert describe(report(7, 50), "training", 0.2) == (
        "round  7 of 50  2 sites  loss 0.2500  validation loss 0.5000  AUROC 0.8000  0.12 s  "
        "9 s left"
    )
    assert describe(report(7, 50), "pretraining", 1).startswith("pretraining round  7 of 50  ")
    assert "2 sites, 1 out  " in describe(report(7, 50, c="late"), "training", 1)
    out = report(7, 50, rejected=("d",), c="late", d="not finite")
    assert "2 sites, 2 out (1 rejected)  " in describe(out, "training", 1)
    assert "AUROC n/a" in describe(report(7, 50, auroc=None), "training", 1)


@pytest.mark.parametrize(
    ("seconds", "left"),
    [(0.0, "0 s"), (0.6, "6 s"), (5.99, "1 min 00 s"), (20, "3 min 20 s"), (726, "2 h 01 min")],
)
def test_the_time_left(seconds: float, left: str) -> None:
    assert describe(report(40, 50), "training", seconds).endswith(f"  {left} left")


def test_the_last_round_leaves_none() -> None:
    assert describe(report(50, 50), "training", 1).endswith("  0.12 s")


def test_the_time_left_follows_the_recent_rounds_and_counts_the_gaps() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    line(report(1, 3), "training")
    line(report(2, 3, gap=99.877), "training")
    # The mean of 0.123 and 100 seconds for the one round that is left.
    assert stream.getvalue().splitlines()[-1].endswith("51 s left")
    for round_ in range(1, 21):
        line(report(round_, 30), "training")
    assert stream.getvalue().splitlines()[-1].endswith("2 s left")


def test_a_phase_is_not_judged_by_the_one_before() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    line(report(1, 1, gap=1000.0), "pretraining")
    line(report(1, 2), "training")
    assert stream.getvalue().splitlines()[-1].endswith("1 s left")


def test_a_resumption_is_told() -> None:
    stream = io.StringIO()
    ProgressLine(stream).resumed(7, "training")
    ProgressLine(stream).resumed(2, "pretraining")
    assert stream.getvalue() == "resumed after round 7\npretraining resumed after round 2\n"


def test_a_log_gets_about_ten_lines_and_the_last_round() -> None:
    for rounds in (1, 2, 9, 10, 11, 15, 19, 50, 101):
        lines = shown(rounds, io.StringIO()).splitlines()
        assert min(rounds, 5) <= len(lines) <= 11
        assert lines[-1].startswith(f"round {rounds} of {rounds}")


def test_a_terminal_gets_one_line_rewritten() -> None:
    text = shown(50, Terminal())
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert text.count("\r\x1b[K") == 50

import io

from fl_assets.federation.progress import ProgressLine, describe
from fl_assets.federation.rounds import RoundReport, SiteReport


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def report(round_: int, rounds: int, auroc: float | None = 0.8, **dropouts: str) -> RoundReport:
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
        seconds=0.123,
        sent=0,
        received=0,
    )


def shown(rounds: int, stream: io.StringIO) -> str:
    line = ProgressLine(stream)
    for round_ in range(1, rounds + 1):
        line(report(round_, rounds))
    return stream.getvalue()


def test_a_round_in_one_line() -> None:
    assert describe(report(7, 50)) == (
        "round  7 of 50  2 sites  loss 0.2500  validation loss 0.5000  AUROC 0.8000  0.12 s"
    )
    assert "2 sites, 1 out" in describe(report(7, 50, c="late"))
    assert "AUROC n/a" in describe(report(7, 50, auroc=None))


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

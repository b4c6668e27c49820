import logging
from pathlib import Path

import pytest

from fl_assets.cluster.termination import FINAL, telling_why
from fl_assets.errors import BadDataError, FlAssetsError


class NoRowsError(FlAssetsError):
    pass


@pytest.fixture
def message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "termination-log"
    monkeypatch.setenv("FLA_TERMINATION_LOG", str(path))
    return path


def end_with(error: Exception) -> None:
    with telling_why():
        raise error


def test_our_own_errors_are_told_whole(message: Path) -> None:
    with pytest.raises(SystemExit, match="1"):
        end_with(NoRowsError("no rows: upload some"))
    assert message.read_text() == "NoRowsError: no rows: upload some"


@pytest.mark.parametrize(
    ("error", "final", "code"),
    [
        (NoRowsError("none"), (), 1),
        (NoRowsError("none"), (NoRowsError,), FINAL),
        (BadDataError("bad"), (), FINAL),
    ],
)
def test_an_error_that_another_pod_would_meet_as_well_has_a_code_of_its_own(
    message: Path, error: Exception, final: tuple[type[FlAssetsError], ...], code: int
) -> None:
    with pytest.raises(SystemExit) as caught, telling_why(*final):
        raise error
    assert caught.value.code == code
    assert message.read_text() == f"{type(error).__name__}: {error}"


def test_of_others_only_the_type_is_told(message: Path) -> None:
    with pytest.raises(SystemExit, match="1"):
        end_with(ValueError("canary-4711"))
    assert "ValueError" in message.read_text()
    assert "canary" not in message.read_text()


def test_a_message_is_no_longer_than_kubernetes_keeps(message: Path) -> None:
    with pytest.raises(SystemExit):
        end_with(NoRowsError("é" * 9000))
    assert len(message.read_bytes()) == 4096


def test_a_message_that_cannot_be_left_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLA_TERMINATION_LOG", str(tmp_path / "missing" / "log"))
    with caplog.at_level(logging.ERROR), pytest.raises(SystemExit):
        end_with(NoRowsError("no rows"))
    assert "no termination message" in caplog.text
    assert "NoRowsError: no rows" in caplog.text


def test_who_ends_well_says_nothing(message: Path) -> None:
    with telling_why():
        pass
    assert not message.exists()

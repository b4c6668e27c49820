import os
import signal
from pathlib import Path

import pytest

from fl_assets.federation.deployment import children
from fl_assets.federation.deployment.children import NotStartedError, ProcessDiedError
from fl_assets_tests.federation.deployment.processes import (
    child,
    environment_of,
    marked,
    parent,
    wait_for,
)


def test_a_child_says_when_it_is_ready(tmp_path: Path) -> None:
    started = child(tmp_path)
    assert started.await_announced() == "hello"
    started.check()
    assert marked(tmp_path) == {started.pid}
    started.kill()
    assert started.code == -signal.SIGKILL


def test_a_child_gets_nothing_from_this_environment_that_could_be_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the coordinator's")
    monkeypatch.setenv("LANG", "C.UTF-8")
    started = child(tmp_path)
    started.await_announced()
    found = environment_of(started.pid)
    started.kill()

    assert "the coordinator's" not in str(found)
    assert found["HOME"] == str(tmp_path / "child") != os.environ["HOME"]
    assert found["LANG"] == "C.UTF-8"
    assert found["FLWR_TELEMETRY_ENABLED"] == "0"
    assert found["OMP_NUM_THREADS"] == "1"


def test_a_child_that_dies_is_named_with_its_last_words(tmp_path: Path) -> None:
    words = "\x1b[91mERROR\x1b[0m: the port is taken"
    started = child(tmp_path, "superlink", announced=None, words=words, end="exit")
    with pytest.raises(ProcessDiedError) as caught:
        started.await_announced()
    started.kill()
    text = str(caught.value)
    assert text.startswith("process superlink ended with exit code 3; the end of ")
    assert "ERROR: the port is taken" in text
    assert str(tmp_path / "superlink.log") in text


def test_only_the_end_of_a_log_is_quoted(tmp_path: Path) -> None:
    words = "\n".join(f"line {n}" for n in range(100))
    started = child(tmp_path, announced=None, words=words, end="exit")
    with pytest.raises(ProcessDiedError) as caught:
        started.await_announced()
    started.kill()
    assert "line 99" in str(caught.value)
    assert "line 50" not in str(caught.value)


@pytest.mark.parametrize("ready", [True, False])
def test_a_log_that_may_quote_patients_is_not_quoted_once_its_child_is_ready(
    tmp_path: Path, ready: bool
) -> None:
    silent = {} if ready else {"announced": None}
    started = child(tmp_path, private=True, words="canary-4711", end="raise", **silent)
    wait_for(lambda: started.code is not None)
    with pytest.raises(ProcessDiedError) as caught:
        started.check()
    started.kill()
    assert ("canary-4711" in str(caught.value)) != ready
    assert str(tmp_path / "child.log") in str(caught.value)


def test_a_killed_child_is_said_to_be_killed(tmp_path: Path) -> None:
    started = child(tmp_path)
    started.await_announced()
    os.kill(started.pid, signal.SIGKILL)
    wait_for(lambda: started.code is not None)
    with pytest.raises(ProcessDiedError, match="process child ended with SIGKILL"):
        started.check()
    started.kill()


def test_a_child_that_is_never_ready_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "START_SECONDS", 0.1)
    started = child(tmp_path, announced=None)
    with pytest.raises(NotStartedError, match=r"process child was not ready after 0.1 s"):
        started.await_announced()
    started.kill()


def test_a_child_goes_with_what_it_has_started(tmp_path: Path) -> None:
    started = child(tmp_path, grandchild=True)
    started.await_announced()
    assert len(marked(tmp_path)) == 2
    started.kill()
    wait_for(lambda: not marked(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_child_does_not_outlive_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    module = "fl_assets_tests.federation.deployment.child"
    with parent(tmp_path, module, str(tmp_path)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hello\n"
        # The parent itself has no mark.
        assert len(marked(tmp_path)) == 2
        process.send_signal(number)
        process.communicate()
        wait_for(lambda: not marked(tmp_path))

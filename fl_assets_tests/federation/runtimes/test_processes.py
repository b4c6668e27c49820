from pathlib import Path

import pytest

from fl_assets.federation.deployment import children
from fl_assets.federation.deployment.server import RunFailedError
from fl_assets.federation.job import load_result
from fl_assets.federation.runtimes.base import build_runtime
from fl_assets.federation.runtimes.processes import ProcessesRuntime
from fl_assets.learning.weights import weights_to_bytes
from fl_assets.settings import Settings
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.federation.deployment.processes import wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]


def processes() -> set[str]:
    """The folder of every deployment that has a process."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            pairs = (process / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        found |= {pair for pair in pairs if pair.startswith(f"{children.MARK}=")}
    return found


def test_a_run_gives_what_it_stores_and_leaves_nothing_behind(
    make_job: MakeJob,
    world: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = processes()
    job = make_job().model_copy(update={"progress": True})
    result = build_runtime("processes").run(job)

    stored = load_result(world.coordinator_store(), job.run)
    assert weights_to_bytes(result.weights) == weights_to_bytes(stored.weights)
    assert [report.round for report in result.history.rounds] == [1, 2]
    assert not list(tmp_path.glob("fl-assets-*"))
    wait_for(lambda: processes() <= before)
    # The server's progress is seen here, though it is another process.
    assert "round 2 of 2  3 sites" in capfd.readouterr().err


def test_a_run_that_fails_says_why_and_leaves_its_logs_and_no_key(
    make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job(quorum=2)
    alone = job.model_copy(update={"sites": {"hospital-a": job.sites["hospital-a"]}})
    work = tmp_path / "work"
    with pytest.raises(RunFailedError, match=r"TooFewSitesError: the run has 1 sites and needs 2"):
        ProcessesRuntime(work=work).run(alone)

    assert {path.name for path in work.glob("*.log")} == {
        "hospital-a-executor.log",
        "hospital-a-node.log",
        "server.log",
        "superlink.log",
    }
    assert "TooFewSitesError" in (work / "server.log").read_text()
    assert not list(work.glob("keys-*"))
    assert work.stat().st_mode & 0o077 == 0
    wait_for(lambda: not [found for found in processes() if str(work) in found])

"""`fla upload` that is killed in the middle of a transfer, and called again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event

import boto3
import pytest

from fl_assets.cohorts.spec import load_cohort
from fl_assets.cohorts.synthetic import generate
from fl_assets.storage.multipart import PART
from fl_assets_tests.storage.s3_servers import REGION
from fl_assets_tests.storage.servers import stalling_proxy

pytestmark = [pytest.mark.services, pytest.mark.faults]

PARTS = 3


def large_file(path: Path) -> bytes:
    """Write a file of three parts, whose long ids keep the number of rows, and the time, small."""
    frame = generate(load_cohort("stroke", Path()), 1000, 1)
    rows = [line.partition(",")[2] for line in frame.to_csv(index=False).splitlines()]
    lines, size = [f"id,{rows[0]}\n"], 0
    while size < (PARTS - 0.5) * PART:
        lines.append(f"{len(lines):0800d},{rows[1 + len(lines) % 1000]}\n")
        size += len(lines[-1])
    data = "".join(lines).encode()
    path.write_bytes(data)
    return data


def test_it_goes_on_where_it_was_killed(
    s3_endpoint: str, make_bucket: Callable[..., str], tmp_path: Path
) -> None:
    bucket, file = make_bucket(), tmp_path / "patients.csv"
    data = large_file(file)
    consortium = tmp_path / "consortium.yaml"
    consortium.write_text(
        f"name: killed\ncohort: stroke\nbucket: s3://{bucket}/{{hospital}}\nregion: {REGION}\n"
        "split: {salt: only-for-tests}\nhospitals: [{name: north}]\n"
    )
    command = [sys.executable, "-m", "fl_assets.cli", "upload", "north", str(file), "--yes"]
    stalled, requests = Event(), list[str]()
    with stalling_proxy(s3_endpoint, 2, stalled, requests) as url:
        environment = os.environ | {
            "FLA_HOME": str(tmp_path),
            "FLA_CONSORTIUM": str(consortium),
            "AWS_ENDPOINT_URL_S3": url,
        }
        with (tmp_path / "log").open("wb") as log:
            first = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        assert stalled.wait(120), (tmp_path / "log").read_text()
        first.kill()
        first.wait()
        assert [r for r in requests if r.startswith("POST uploads")] == ["POST uploads"]
        requests.clear()

        second = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )

    assert second.returncode == 0, second.stderr
    sent = [request for request in requests if request.startswith("PUT") and "part" in request]
    assert sorted("partNumber=2" in request for request in sent) == [False, True]
    assert not any("partNumber=1" in request for request in sent)
    assert "POST uploads" not in requests
    client = boto3.client("s3")
    key = "north/incoming/patients.csv"
    assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == data
    (version,) = client.list_object_versions(Bucket=bucket)["Versions"]
    assert version["Key"] == key

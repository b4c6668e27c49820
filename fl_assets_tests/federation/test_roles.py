"""A federation over buckets on S3, each of which its hospital's own role opens."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

import pytest
import yaml

from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.settings import Settings
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.storage.conftest import make_bucket, s3_endpoint
from fl_assets_tests.storage.servers import short_sessions
from fl_assets_tests.world import settings_of

__all__ = ["make_bucket", "s3_endpoint"]

ROLE = "arn:aws:iam::123456789012:role/fla-{hospital}"


@pytest.mark.services
def test_every_hospital_takes_its_own_role(
    world: Settings,
    make_job: MakeJob,
    s3_endpoint: str,
    make_bucket: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = world.consortium.hospital_names
    folders = {name: world.site_store(name) for name in names}
    config = yaml.safe_load(world.consortium_file.read_text())
    # One bucket is enough here: the isolation of buckets is tested elsewhere.
    config |= {"bucket": f"s3://{make_bucket()}/{{hospital}}", "role": ROLE}
    world.consortium_file.write_text(yaml.safe_dump(config))
    settings = settings_of(world.home)

    taken: list[dict[str, list[str]]] = []
    with short_sessions(s3_endpoint, lambda body: taken.append(parse_qs(body.decode()))) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        for name, folder in folders.items():
            store = settings.site_store(name)
            for info in folder.list():
                store.put(info.key, folder.get(info.key))
        taken.clear()
        job = make_job(settings=settings, rounds=1)
        job = job.model_copy(update={"access": {n: settings.site_access(n) for n in names}})
        result = InProcessRuntime().run(job)
    assert set(result.history.final) == set(names)
    assert {(one["RoleArn"][0], one["RoleSessionName"][0]) for one in taken} == {
        (ROLE.format(hospital=name), f"fl-assets-{name}") for name in names
    }

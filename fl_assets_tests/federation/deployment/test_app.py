import hashlib
import io
import subprocess
import sys
import zipfile

from fl_assets.federation.deployment.app import RunOrder, bundle, is_ours
from fl_assets.federation.flower_internals.control import build_fab
from fl_assets_tests.federation.conftest import MakeJob


def test_the_bundle_has_no_code() -> None:
    with zipfile.ZipFile(io.BytesIO(bundle())) as files:
        names = set(files.namelist())
        pyproject = files.read("pyproject.toml").decode()
    assert not [name for name in names if name.endswith(".py")]
    assert "fl_assets.federation.client_app:app" in pyproject
    assert "fl_assets.federation.server_app:app" in pyproject


def test_another_process_makes_the_same_bundle() -> None:
    code = (
        "from fl_assets.federation.deployment.app import bundle; import sys;"
        "sys.stdout.buffer.write(bundle())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == bundle()


def test_only_the_bundle_is_ours() -> None:
    assert is_ours(hashlib.sha256(bundle()).hexdigest())
    other = build_fab(
        '[project]\nname = "other"\nversion = "1.0.0"\n'
        '[tool.flwr.app]\npublisher = "somebody"\n'
        '[tool.flwr.app.components]\nserverapp = "a:app"\nclientapp = "b:app"\n'
    )
    assert not is_ours(hashlib.sha256(other).hexdigest())


def test_an_order_arrives_as_it_was_given(make_job: MakeJob) -> None:
    job = make_job()
    order = RunOrder(job.run_config(), tuple(sorted(job.sites)))
    arrived = RunOrder.from_wire(order.to_wire())
    assert arrived.config == order.config
    assert tuple(arrived.hospitals) == order.hospitals

"""Who is not let in, by real SuperLinks."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from fl_assets.federation.deployment.children import Child, announced_file
from fl_assets.federation.deployment.pki import Authority, new_node_key, new_secret
from fl_assets.federation.deployment.superlink import SuperLinkArguments
from fl_assets.federation.deployment.supernode import SuperNodeArguments
from fl_assets.federation.flower_internals.control import Control
from fl_assets.federation.flower_internals.tasks import Kind, Tasks
from fl_assets_tests.federation.deployment.processes import wait_for

pytestmark = [pytest.mark.services, pytest.mark.faults]


class Link:
    """A SuperLink with the certificate of an authority."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        files = authority.issue(folder)
        self.ca = files.ca
        self.secret = new_secret(folder / "secret")
        self.child = Child(
            "superlink",
            "fl_assets.federation.deployment.superlink",
            SuperLinkArguments(
                announced=announced_file(folder, "superlink"),
                ca=files.ca,
                certificate=files.certificate,
                key=files.key,
                secret=self.secret,
            ),
            folder,
            {},
        )
        self.address = self.child.await_announced()

    def node(self, name: str, ca: Path, key: Path) -> Child:
        """Start a SuperNode that wants to join."""
        return Child(
            name,
            "fl_assets.federation.deployment.supernode",
            SuperNodeArguments(
                announced=announced_file(self.folder, name),
                superlink=self.address,
                ca=ca,
                key=key,
                secret=self.secret,
                config={"hospital": name, "store": "file:///nowhere"},
            ),
            self.folder,
            {},
        )

    def online(self) -> set[str]:
        """Who has joined."""
        return Control(self.address, self.ca.read_bytes()).online()


@pytest.fixture(scope="module")
def new_link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Authority], Link]]:
    links: list[Link] = []

    def make(authority: Authority) -> Link:
        links.append(Link(tmp_path_factory.mktemp("link"), authority))
        return links[-1]

    yield make
    for link in links:
        link.child.kill()


@pytest.fixture(scope="module")
def link(new_link: Callable[[Authority], Link]) -> Link:
    """A SuperLink whose certificate is good."""
    return new_link(Authority())


def refused(node: Child, why: str) -> bool:
    """Wait until a node gives up; tell whether it says why."""
    wait_for(lambda: node.code is not None)
    node.kill()
    return node.code != 0 and why in node.last_words()


def test_a_registered_key_is_let_in_and_only_with_the_right_authority(
    link: Link, tmp_path: Path
) -> None:
    control = Control(link.address, link.ca.read_bytes())
    control.register("hospital-a", new_node_key(tmp_path / "a.key"))
    other = Authority().issue(tmp_path)
    stranger = link.node("wrong-ca", other.ca, tmp_path / "a.key")
    assert refused(stranger, "certificate verify failed")
    assert link.online() == set()

    node = link.node("hospital-a", link.ca, tmp_path / "a.key")
    wait_for(lambda: link.online() == {"hospital-a"})
    node.kill()


def test_an_unregistered_key_is_refused(link: Link, tmp_path: Path) -> None:
    before = link.online()
    new_node_key(tmp_path / "unknown.key")
    node = link.node("unknown", link.ca, tmp_path / "unknown.key")
    assert refused(node, "Failed to initialize the connection to the SuperLink")
    assert link.online() == before


def test_an_expired_certificate_is_refused(
    new_link: Callable[[Authority], Link], tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    link = new_link(Authority(now - timedelta(days=2), now - timedelta(minutes=1)))
    new_node_key(tmp_path / "a.key")
    assert refused(link.node("late", link.ca, tmp_path / "a.key"), "certificate has expired")
    with pytest.raises(httpx.ConnectError, match="certificate has expired"):
        link.online()


def test_plain_http_is_refused(link: Link) -> None:
    link.online()  # it is up
    with pytest.raises(httpx.TransportError):
        httpx.post(f"http://{link.address}/v1/fleet/pull-messages")
    context = ssl.create_default_context(cafile=str(link.ca))
    assert httpx.get(f"https://{link.address}/health", verify=context).is_success


def test_nobody_gets_a_task_without_the_secret(link: Link) -> None:
    tasks = Tasks(link.address, b"another secret", link.ca.read_bytes())
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        tasks.take(Kind.SERVER)


def test_it_listens_on_loopback_alone(link: Link) -> None:
    assert urlsplit(f"//{link.address}").hostname == "127.0.0.1"
    port = int(link.address.rpartition(":")[2])
    listening = {
        line.split()[1]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{link.child.pid}/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    }
    assert listening == {f"0100007F:{port:04X}"}

"""The Control API of a SuperLink, and a node's goodbye to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.cli.build import build_fab_from_files
from flwr.common.constant import Status
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
)
from flwr.proto.fleet_pb2 import DeactivateNodeRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

ONLINE = "online"


class RegisteredNode(NamedTuple):
    """A node as the SuperLink knows it."""

    node_id: int
    online: bool


class Control:
    """A client of the Control API.

    Args:
        address: ``host:port`` of the SuperLink.
        ca: certificates of the authority, PEM.
    """

    def __init__(self, address: str, ca: bytes) -> None:
        self._client = ControlHttpClient.from_server_address(
            address,
            insecure=False,
            root_certificates=ca,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )

    def register(self, name: str, key: ec.EllipticCurvePublicKey) -> int:
        """Let whoever has the private key be a node of this name; return the node's id."""
        request = RegisterNodeRequest(name=name, public_key=public_key_to_bytes(key))
        return int(self._client.RegisterNode(request).node_id)

    def online(self) -> set[str]:
        """Return the names of the nodes that are connected."""
        nodes = self._client.ListNodes(ListNodesRequest()).nodes_info
        return {node.name for node in nodes if node.status == ONLINE}

    def node(self, key: Path) -> RegisteredNode | None:
        """Return the node that was registered with a key, if one was.

        Args:
            key: file with the node's private key.
        """
        public = public_key_to_bytes(_private_key(key).public_key())
        for node in self._client.ListNodes(ListNodesRequest()).nodes_info:
            if node.public_key == public:
                return RegisteredNode(int(node.node_id), node.status == ONLINE)
        return None

    def finished(self, fab: bytes) -> bool:
        """Tell whether the link has had runs of an app bundle, and they are all over."""
        known = self._client.ListRuns(ListRunsRequest()).run_dict.values()
        runs = [run for run in known if run.fab_hash == hashlib.sha256(fab).hexdigest()]
        return bool(runs) and all(run.status.status == Status.FINISHED for run in runs)

    def start(self, fab: bytes, config: Mapping[str, str]) -> int:
        """Start a run of an app bundle; return its id."""
        bundle = Fab(hashlib.sha256(fab).hexdigest(), fab, {})
        request = StartRunRequest(
            fab=fab_to_proto(bundle), override_config=user_config_to_proto(dict(config))
        )
        return int(self._client.StartRun(request).run_id)

    def failure(self, run_id: int) -> str:
        """Return why a run failed; empty where it has not."""
        runs = self._client.ListRuns(ListRunsRequest(run_id=run_id)).run_dict
        return str(runs[run_id].status.details)

    def stop(self, run_id: int) -> None:
        """End a run; what is under way for it is dropped."""
        self._client.StopRun(StopRunRequest(run_id=run_id))

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()


def say_goodbye(address: str, ca: bytes, key: Path, node_id: int) -> None:
    """Tell a SuperLink that a node is gone; without it the link notices after a minute.

    Args:
        address: ``host:port`` of the SuperLink.
        ca: certificates of the authority, PEM.
        key: file with the node's private key.
        node_id: of the node.
    """
    private = _private_key(key)
    with FleetHttpClient.from_server_address(
        address,
        insecure=False,
        root_certificates=ca,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="SuperNode"),
            NodeAuthHttpInterceptor(private, private.public_key()),
        ],
    ) as client:
        client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))


def build_fab(pyproject: str) -> bytes:
    """Return an app bundle of a ``pyproject.toml`` alone; the same bytes for the same text."""
    bundle: bytes = build_fab_from_files({"pyproject.toml": pyproject.encode()})[0]
    return bundle


def _private_key(file: Path) -> ec.EllipticCurvePrivateKey:
    private = load_ssh_private_key(file.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return private

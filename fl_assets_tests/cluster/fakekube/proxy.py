"""What kube-proxy does: connections to a Service's address go on to its pods.

Only where a pod listens on its own address: a process that listens on 0.0.0.0 is reached at the
Service's address anyway, and its port could not be taken a second time.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

from fl_assets_tests.cluster.fakekube.kinds import POD, SERVICE, Manifest, labels_of
from fl_assets_tests.cluster.fakekube.store import Store

LISTENING = "0A"
Address = tuple[str, int]


class Proxy:
    """Listens in the place of Services whose pods listen on their own address."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listeners: dict[Address, socket.socket] = {}

    def run(self) -> None:
        """Look after the Services until the store closes."""
        while not self._store.closed:
            wanted = {} if not self._store.of_kind(SERVICE) else self._wanted()
            for address in wanted.keys() - self._listeners.keys():
                self._listen(address)
            for address in self._listeners.keys() - self._existing():
                _close(self._listeners.pop(address))
            self._store.wait(0.05)
        for listener in self._listeners.values():
            _close(listener)

    def _existing(self) -> set[Address]:
        return {
            (service["spec"]["clusterIP"], port["port"])
            for service in self._store.of_kind(SERVICE)
            for port in service["spec"].get("ports") or []
        }

    def _wanted(self) -> dict[Address, Address]:
        """Return the address of a pod for each address of a Service."""
        listening = _listening()
        found = {}
        for service in self._store.of_kind(SERVICE):
            for pod in self._pods(service):
                for port in service["spec"].get("ports") or []:
                    target = (pod["status"]["podIP"], _number(port["targetPort"], pod))
                    if target in listening:
                        found[(service["spec"]["clusterIP"], port["port"])] = target
        return found

    def _pods(self, service: Manifest) -> list[Manifest]:
        selector = service["spec"].get("selector") or {}
        return [
            pod
            for pod in self._store.of_kind(POD, service["metadata"]["namespace"])
            if selector
            and selector.items() <= labels_of(pod).items()
            and pod["status"]["phase"] == "Running"
        ]

    def _listen(self, address: Address) -> None:
        if address[0] == "None":
            return
        listener = socket.create_server(address)
        self._listeners[address] = listener
        threading.Thread(target=self._accept, args=(listener, address), daemon=True).start()

    def _accept(self, listener: socket.socket, address: Address) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                target = self._wanted().get(address)
                if target is None:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(target, timeout=5)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=pair, daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _close(listener: socket.socket) -> None:
    # Closing alone does not wake the thread that accepts.
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def _listening() -> set[Address]:
    """Return the IPv4 addresses of this machine at which somebody listens."""
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {_address(row[1]) for row in rows if row[3] == LISTENING}


def _address(text: str) -> Address:
    host, port = text.split(":")
    # gRPC listens on IPv4 through a socket of IPv6, whose last four bytes are the address.
    numbers = bytes.fromhex(host[-8:])
    return ".".join(str(byte) for byte in reversed(numbers)), int(port, 16)


def _number(target: int | str, pod: Manifest) -> int:
    ports = pod["spec"]["containers"][0].get("ports") or []
    named = {port.get("name"): port["containerPort"] for port in ports}
    return target if isinstance(target, int) else named.get(target, 0)

"""A way from this machine to a service of the cluster: ``kubectl port-forward``."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import suppress
from types import TracebackType
from typing import Self

from deploy.errors import DeploymentError

_STOP_SECONDS = 5.0


class Forward:
    """A port of this machine that leads to a service, for as long as the context lasts.

    Args:
        namespace: of the service.
        service: its name.
        port: of the service.

    Attributes:
        url: of the port here.

    Raises:
        DeploymentError: kubectl is missing, or the cluster refused, in kubectl's words.
    """

    url: str

    def __init__(self, namespace: str, service: str, port: int) -> None:
        if shutil.which("kubectl") is None:
            raise DeploymentError("there is no `kubectl` on the PATH: install it")
        # The API server is asked for a free port by leaving out the first number.
        self._command = [
            "kubectl",
            "-n",
            namespace,
            "port-forward",
            f"service/{service}",
            f":{port}",
        ]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.renew()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def renew(self) -> None:
        """Open the way, anew if it was open: it breaks when the pod or a connection goes away."""
        self._stop()
        process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._process = process
        if process.stdout is None or process.stderr is None:
            raise AssertionError("both are pipes")
        found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        if found is None:
            said = process.stderr.read().strip()
            raise DeploymentError(
                f"`{' '.join(self._command)}` failed: {said}; see whether `kubectl get pods` "
                "works, and renew the login with `aws eks update-kubeconfig`"
            )
        self.url = f"http://127.0.0.1:{found[1]}"

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=_STOP_SECONDS)
        self._process.kill()
        self._process = None

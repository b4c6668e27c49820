"""One hospital's part of a deployment: a SuperNode and an executor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fl_assets.federation.deployment.children import Child, announced_file
from fl_assets.federation.deployment.executor import ExecutorArguments
from fl_assets.federation.deployment.supernode import SuperNodeArguments
from fl_assets.federation.site_config import SiteConfig


class Site:
    """The two processes of a hospital, which stand and fall together.

    Args:
        config: of the hospital's node.
        environment: with the credentials of its store; the executor alone has them.
        folder: of the run.
        key: file with the private key by which the SuperLink knows the node.
        secret: file with the SuperExec secret of the two.
        ca: certificate of the SuperLink's authority.

    Attributes:
        name: of the hospital and its node.
        key: see above.
        node_id: at the SuperLink, from when it is registered.
    """

    def __init__(
        self,
        config: SiteConfig,
        environment: Mapping[str, str],
        folder: Path,
        key: Path,
        secret: Path,
        ca: Path,
    ) -> None:
        self.name = config.hospital
        self.key = key
        self.node_id = 0
        self._config = config
        self._environment = environment
        self._folder = folder
        self._secret = secret
        self._ca = ca
        self._node: Child | None = None
        self._executor: Child | None = None

    @property
    def processes(self) -> list[Child]:
        """Those that should run."""
        return [child for child in (self._node, self._executor) if child is not None]

    def start_executor(self) -> None:
        """Start the executor, which waits for the SuperNode."""
        runtime = announced_file(self._folder, self._node_name)
        runtime.unlink(missing_ok=True)
        self._executor = Child(
            f"{self.name}-executor",
            "fl_assets.federation.deployment.executor",
            ExecutorArguments(
                half="site",
                announced=announced_file(self._folder, f"{self.name}-executor"),
                runtime=runtime,
                secret=self._secret,
            ),
            self._folder,
            self._environment,
            private=True,
        )

    def start_node(self, superlink: str) -> None:
        """Start the SuperNode, which must have been registered."""
        self._node = Child(
            self._node_name,
            "fl_assets.federation.deployment.supernode",
            SuperNodeArguments(
                announced=announced_file(self._folder, self._node_name),
                superlink=superlink,
                ca=self._ca,
                key=self.key,
                secret=self._secret,
                config=self._config.to_node(),
            ),
            self._folder,
            {},
        )

    def await_executor(self) -> None:
        """Wait until the executor is ready.

        Raises:
            ProcessDiedError, NotStartedError: it will not be.
        """
        if self._executor is not None:
            self._executor.await_announced()

    def check(self) -> None:
        """Do nothing while both run.

        Raises:
            ProcessDiedError: one has ended.
        """
        for child in self.processes:
            child.check()

    def kill(self) -> None:
        """End both."""
        for child in self.processes:
            child.kill()
        self._node = self._executor = None

    @property
    def _node_name(self) -> str:
        return f"{self.name}-node"

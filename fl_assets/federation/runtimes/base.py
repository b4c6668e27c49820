"""The interface of a runtime, and the runtimes by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from fl_assets.consortium import Cluster
from fl_assets.errors import BadDataError
from fl_assets.federation.job import FederationJob, FederationResult
from fl_assets.settings import Settings

RuntimeName = Literal["inprocess", "processes", "simulation", "kubernetes"]


class Runtime(Protocol):
    """Runs the one ServerApp and the one ClientApp somewhere."""

    def run(self, job: FederationJob) -> FederationResult:
        """Train; the result is also in the job's output store.

        Raises:
            FederationError: the run ended without a model; nothing is left running.
        """


class UnknownRuntimeError(BadDataError):
    """A name that no runtime has."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"no runtime is named {name!r}: choose one of {', '.join(get_args(RuntimeName))}"
        )


class NoImageError(BadDataError):
    """The runtime ``kubernetes`` does not know what its pods are to run."""


@dataclass(frozen=True)
class KubernetesConfig:
    """What the runtime ``kubernetes`` needs to know.

    Attributes:
        cluster: namespaces, resources and deadlines.
        site_image, server_image: of a hospital's pod and of the server's.
        run: of Dagster that trains, a label of everything that is made; the training's own if
            empty.
        say: told in words what happens, and the lines of the server's log.
    """

    cluster: Cluster
    site_image: str
    server_image: str
    run: str = ""
    say: Callable[[str], None] = print

    @classmethod
    def of(
        cls, settings: Settings, run: str = "", say: Callable[[str], None] = print
    ) -> KubernetesConfig:
        """Return what settings say.

        Raises:
            NoImageError: they name no image.
            ConfigFileError: consortium.yaml is missing or does not fit.
        """
        site, server = settings.site_image, settings.server_image
        images = {"FLA_SITE_IMAGE": site, "FLA_SERVER_IMAGE": server}
        if site is None or server is None:
            missing = " and ".join(name for name, image in images.items() if image is None)
            raise NoImageError(
                f"the runtime kubernetes needs the images of its pods: set {missing} to the names "
                "with tag under which they were pushed"
            )
        return cls(settings.whole_consortium.cluster, site, server, run, say)


def build_runtime(
    name: str,
    environments: Mapping[str, Mapping[str, str]] | None = None,
    kubernetes: Callable[[], KubernetesConfig] | None = None,
) -> Runtime:
    """Return the runtime of a name, importing no other one.

    Args:
        name: one of ``RuntimeName``.
        environments: variables with the credentials of each hospital's store, by hospital, for a
            runtime in which a hospital has a process of its own.
        kubernetes: returns the configuration of the runtime of that name, which needs one.

    Raises:
        UnknownRuntimeError: the name is none of ``RuntimeName``.
        NoImageError: see :meth:`KubernetesConfig.of`.
    """
    match name:
        case "inprocess":
            from fl_assets.federation.runtimes.inprocess import InProcessRuntime

            return InProcessRuntime()
        case "processes":
            from fl_assets.federation.runtimes.processes import ProcessesRuntime

            return ProcessesRuntime(environments)
        case "simulation":
            from fl_assets.federation.runtimes.simulation import SimulationRuntime

            return SimulationRuntime()
        case "kubernetes":
            from fl_assets.federation.runtimes.kubernetes import KubernetesRuntime

            if kubernetes is None:
                raise NoImageError("the runtime kubernetes needs a KubernetesConfig: give it one")
            return KubernetesRuntime(kubernetes())
    raise UnknownRuntimeError(name)

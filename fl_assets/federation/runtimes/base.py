"""The interface of a runtime, and the runtimes by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, get_args

from fl_assets.errors import FlAssetsError
from fl_assets.federation.job import FederationJob, FederationResult

RuntimeName = Literal["inprocess", "processes", "simulation"]


class Runtime(Protocol):
    """Runs the one ServerApp and the one ClientApp somewhere."""

    def run(self, job: FederationJob) -> FederationResult:
        """Train; the result is also in the job's output store.

        Raises:
            FederationError: the run ended without a model; nothing is left running.
        """


class UnknownRuntimeError(FlAssetsError):
    """A name that no runtime has."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"no runtime is named {name!r}: choose one of {', '.join(get_args(RuntimeName))}"
        )


def build_runtime(
    name: str, environments: Mapping[str, Mapping[str, str]] | None = None
) -> Runtime:
    """Return the runtime of a name, importing no other one.

    Args:
        name: one of ``RuntimeName``.
        environments: variables with the credentials of each hospital's store, by hospital, for a
            runtime in which a hospital has a process of its own.

    Raises:
        UnknownRuntimeError: the name is none of ``RuntimeName``.
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
    raise UnknownRuntimeError(name)

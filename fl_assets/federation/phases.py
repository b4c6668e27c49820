"""The phases of a run, each from one checkpoint to the next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.serverapp import Grid
from torch import nn

from fl_assets.federation.checkpoints import Checkpoint, Checkpoints
from fl_assets.federation.job import FederationError, FederationHistory, FederationResult
from fl_assets.federation.recipe import LocalLayersConfig, Recipe
from fl_assets.federation.rounds import Phase, RoundReport
from fl_assets.federation.strategies.averaging import IterateMean
from fl_assets.federation.strategies.configs import FedAvgConfig
from fl_assets.federation.strategies.consortium import ConsortiumStrategy, OnReserved
from fl_assets.federation.strategies.flower import build_strategy
from fl_assets.federation.strategies.state import restore_state, strategy_state
from fl_assets.learning.models import local_names

PhaseObserver = Callable[[RoundReport, Phase], None]

_ENCODER = "encoder."


class NothingSharedError(FederationError):
    """A recipe that keeps every layer of its model at the hospitals."""

    def __init__(self, recipe: str) -> None:
        super().__init__(
            f"recipe {recipe} keeps every layer of its model at the hospitals, so there is nothing "
            "to train together: keep fewer, or choose a larger model"
        )


@dataclass(frozen=True)
class PhasePlan:
    """What a phase does.

    Attributes:
        name: of the phase.
        recipe: with the phase's own strategy.
        rounds: of the phase.
        sent: names of the arrays that go to the sites and come back.
        action: of the train messages' type.
    """

    name: Phase
    recipe: Recipe
    rounds: int
    sent: tuple[str, ...]
    action: str | None = None


def plan_phases(recipe: Recipe, model: nn.Module) -> list[PhasePlan]:
    """Return the phases that a recipe asks for, in order.

    Raises:
        NothingSharedError: the recipe keeps every layer at the hospitals.
    """
    kept = recipe.personalisation
    local = local_names(model, kept.layers) if isinstance(kept, LocalLayersConfig) else frozenset()
    shared = tuple(name for name in model.state_dict() if name not in local)
    if not shared:
        raise NothingSharedError(recipe.name)
    phases = [PhasePlan("training", recipe, recipe.rounds, shared)]
    if recipe.pretraining is not None:
        # What a strategy does beyond averaging is tuned to the loss of the training.
        plain = recipe.model_copy(update={"strategy": FedAvgConfig()})
        encoder = tuple(name for name in shared if name.startswith(_ENCODER))
        rounds = recipe.pretraining.rounds
        phases.insert(0, PhasePlan("pretraining", plain, rounds, encoder, "pretrain"))
    return phases


class Federation:
    """A run over the hospitals of a grid.

    Args:
        grid: to the sites.
        run: its name.
        hospitals: name by node id.
        observers: are told of each round and its phase.
        checkpoints: where to keep one after each round.
        on_reserved: of :class:`ConsortiumStrategy`.
    """

    def __init__(
        self,
        grid: Grid,
        run: str,
        hospitals: dict[int, str],
        observers: Collection[PhaseObserver],
        checkpoints: Checkpoints,
        on_reserved: OnReserved | None = None,
    ) -> None:
        self._grid = grid
        self._run = run
        self._hospitals = hospitals
        self._observers = observers
        self._checkpoints = checkpoints
        self._on_reserved = on_reserved

    def run(self, phases: Sequence[PhasePlan], at: Checkpoint) -> FederationResult:
        """Carry out what is left of the phases, and have the sites validate the last model.

        Args:
            phases: of the whole run.
            at: where the run is; at its beginning, round 0 of the first phase.

        Returns:
            The whole model: layers that stay at the hospitals have the values they began with.

        Raises:
            TooFewSitesError: fewer sites than the quorum.
            QuorumNotReachedError: too few sites delivered in a round.
        """
        names = [phase.name for phase in phases]
        for phase in phases[names.index(at.phase) :]:
            if at.phase != phase.name:
                at = Checkpoint(phase.name, 0, at.weights, {}, at.history)
            at, strategy = self._carry_out(phase, at)
        history = at.history.model_copy(update={"final": strategy.final})
        return FederationResult(at.weights, history)

    def _carry_out(self, phase: PhasePlan, at: Checkpoint) -> tuple[Checkpoint, ConsortiumStrategy]:
        """Do the rounds of a phase that are left; return its last checkpoint."""
        before, latest = at, at

        def keep(round_: int, arrays: ArrayRecord, reports: Sequence[RoundReport]) -> None:
            nonlocal latest
            latest = Checkpoint(
                phase=phase.name,
                round=round_,
                weights=before.weights | {name: a.numpy() for name, a in arrays.items()},
                state=strategy_state(inner) | mean.state(),
                history=before.history.with_rounds(phase.name, reports),
            )
            self._checkpoints.save(latest)

        def tell(report: RoundReport) -> None:
            for observe in self._observers:
                observe(report, phase.name)

        inner = build_strategy(phase.recipe, len(self._hospitals))
        averaged = phase.recipe.average_rounds if phase.name == "training" else 1
        mean = IterateMean(phase.rounds, averaged)
        restore_state(inner, mean.restore(at.state))
        strategy = ConsortiumStrategy(
            inner,
            phase.recipe,
            self._run,
            self._hospitals,
            [tell],
            done=at.round,
            on_model=keep,
            on_reserved=self._on_reserved,
            rounds=phase.rounds,
            action=phase.action,
            mean=mean,
        )
        arrays = ArrayRecord({name: Array(at.weights[name]) for name in phase.sent})
        left = phase.rounds - at.round
        deadline = phase.recipe.round_deadline
        if left:
            strategy.start(self._grid, arrays, num_rounds=left, timeout=deadline)
        elif phase.name == "training":
            # Interrupted between the last round and the stored result; Flower would do nothing.
            asked = list(strategy.configure_evaluate(0, arrays, ConfigRecord(), self._grid))
            if asked:
                replies = self._grid.send_and_receive(asked, timeout=deadline)
                strategy.aggregate_evaluate(0, replies)
        return latest, strategy


def resumed(found: Checkpoint) -> Checkpoint:
    """Return a stored checkpoint with a note in its history that the run goes on from there."""
    round_ = found.round if found.phase == "training" else 0
    again = (*found.history.resumed, round_)
    return replace(found, history=found.history.model_copy(update={"resumed": again}))


def beginning(phases: Sequence[PhasePlan], model: nn.Module) -> Checkpoint:
    """Return where a run begins: round 0 of its first phase, with the model's first weights."""
    first = {name: weight.numpy() for name, weight in model.state_dict().items()}
    return Checkpoint(phases[0].name, 0, first, {}, FederationHistory(rounds=(), final={}))

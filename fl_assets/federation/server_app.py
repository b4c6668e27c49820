"""The ServerApp: the coordinator's half of a run, in every runtime."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

from flwr.app import Context, UserConfig
from flwr.serverapp import Grid, ServerApp

from fl_assets.federation.checkpoints import Checkpoint, Checkpoints, Inputs
from fl_assets.federation.job import save_result
from fl_assets.federation.phases import Federation, PhaseObserver, beginning, plan_phases, resumed
from fl_assets.federation.progress import ProgressLine
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.statement import PrivacyStatement
from fl_assets.federation.witnesses import save_witness
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import model_for
from fl_assets.storage import open_store

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train by the recipe in the run's config and store the result.

    A run that was interrupted goes on after the last round of which there is a checkpoint, and
    ends with the weights that it would have ended with.

    Raises:
        TooFewSitesError: fewer sites than the quorum.
        QuorumNotReachedError: too few sites delivered in a round.
        NothingSharedError: the recipe leaves nothing to train together.
        OtherInputsError: the run of this name that was interrupted had another recipe or
            preprocessor.
    """
    config = context.run_config
    recipe = Recipe.model_validate_json(str(config["recipe"]))
    preprocessor = Preprocessor.model_validate_json(str(config["preprocessor"]))
    hospitals = {node.node_id: node.name for node in grid.get_nodes()}
    model = model_for(recipe.model, preprocessor, recipe.seed)
    phases = plan_phases(recipe, model)

    store, run = open_store(str(config["output"])), str(config["run"])
    inputs = Inputs(recipe=recipe.hash, preprocessor=preprocessor.version)
    checkpoints = Checkpoints(store, run, inputs, keep=int(config["keep-checkpoints"]))
    if not config["resume"]:
        checkpoints.clear()
    found = checkpoints.latest()
    at = beginning(phases, model) if found is None else resumed(found)

    def bear_witness(statements: Mapping[str, PrivacyStatement]) -> None:
        for name, statement in statements.items():
            save_witness(store, name, statement.head)

    with ExitStack() as stack:
        observers = _observers(config, recipe.name, hospitals.values(), found, stack)
        federation = Federation(grid, run, hospitals, observers, checkpoints, bear_witness)
        result = federation.run(phases, at)
    save_result(store, run, result)
    checkpoints.clear()


def _observers(
    config: UserConfig,
    recipe: str,
    hospitals: Iterable[str],
    found: Checkpoint | None,
    stack: ExitStack,
) -> list[PhaseObserver]:
    """Return who is to be told of the rounds, until the stack ends."""
    observers: list[PhaseObserver] = []
    if config["progress"]:
        line = ProgressLine()
        if found is not None:
            line.resumed(found.round, found.phase)
        observers.append(line)
    # The others late, so that a run without them does not wait for their imports.
    if config["metrics-port"]:
        from fl_assets.federation.prometheus import RoundMetrics, TlsEndpoint, serving

        metrics = RoundMetrics(recipe, str(config["run"]), hospitals)
        given = str(config.get("metrics-endpoint", ""))
        public = TlsEndpoint(**json.loads(given)) if given else None
        stack.enter_context(serving(metrics, int(config["metrics-port"]), public))
        observers.append(metrics)
    if config["tracking-uri"]:
        from fl_assets.federation.mlflow_rounds import RoundLogger

        logger = RoundLogger(str(config["tracking-uri"]), str(config["mlflow-run"]))
        stack.callback(logger.close)
        observers.append(logger)
        if found is not None:
            # It may be a new MLflow run, which knows nothing of the rounds before.
            for phase, report in found.history.by_phase:
                logger(report, phase)
    return observers

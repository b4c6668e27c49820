"""The ServerApp: the coordinator's half of a run, in every runtime."""

from __future__ import annotations

from contextlib import ExitStack

from flwr.app import ArrayRecord, Context, UserConfig
from flwr.serverapp import Grid, ServerApp

from fl_assets.federation.job import FederationHistory, FederationResult, save_result
from fl_assets.federation.progress import ProgressLine
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.rounds import RoundObserver
from fl_assets.federation.strategies.consortium import ConsortiumStrategy, build_strategy
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import build_model
from fl_assets.storage import open_store

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train by the recipe in the run's config and store the result.

    Raises:
        TooFewSitesError: fewer sites than the quorum.
        QuorumNotReachedError: too few sites delivered in a round.
    """
    config = context.run_config
    recipe = Recipe.model_validate_json(str(config["recipe"]))
    preprocessor = Preprocessor.model_validate_json(str(config["preprocessor"]))
    hospitals = {node.node_id: node.name for node in grid.get_nodes()}
    model = build_model(
        recipe.model,
        len(preprocessor.feature_names),
        preprocessor.cohort.label.prevalence,
        recipe.seed,
    )
    with ExitStack() as stack:
        strategy = ConsortiumStrategy(
            build_strategy(recipe, len(hospitals)), recipe, hospitals, _observers(config, stack)
        )
        result = strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(model.state_dict()),
            num_rounds=recipe.rounds,
            timeout=recipe.round_deadline,
        )
    weights = {name: array.numpy() for name, array in result.arrays.items()}
    history = FederationHistory(rounds=tuple(strategy.reports), final=strategy.final)
    save_result(
        open_store(str(config["output"])), str(config["run"]), FederationResult(weights, history)
    )


def _observers(config: UserConfig, stack: ExitStack) -> list[RoundObserver]:
    observers: list[RoundObserver] = []
    if config["progress"]:
        observers.append(ProgressLine())
    if config["tracking-uri"]:
        # Late, so that a run without MLflow does not wait seconds for its import.
        from fl_assets.federation.mlflow_rounds import RoundLogger

        logger = RoundLogger(str(config["tracking-uri"]), str(config["mlflow-run"]))
        stack.callback(logger.close)
        observers.append(logger)
    return observers

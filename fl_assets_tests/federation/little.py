"""A federation without patients: one weight, and clients that do what a test tells them to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import Result

from fl_assets.federation import rounds
from fl_assets.federation.client_app import keep_details_home
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.runtimes.inprocess import InProcessGrid
from fl_assets.federation.strategies.consortium import ConsortiumStrategy, build_strategy
from fl_assets.learning.configs import LogisticRegressionConfig

Client = Callable[[Message, Context], RecordDict]
HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")


def arrays_of(*values: float, dtype: str = "float32") -> ArrayRecord:
    """A model of one weight vector."""
    return ArrayRecord({"w": Array(np.array(values, dtype=dtype))})


def values_of(arrays: ArrayRecord) -> list[float]:
    """Undo :func:`arrays_of`."""
    return [float(v) for v in arrays["w"].numpy()]


def round_of(message: Message) -> int:
    """The round that a message belongs to."""
    return int(message.content.config_records[rounds.CONFIG][rounds.ROUND])


def reply(arrays: ArrayRecord | None = None, examples: int = 1, **changes: Any) -> RecordDict:
    """A well-formed reply to a train message, or to an evaluate message without arrays."""
    figures: dict[str, Any] = {
        rounds.VALIDATION_EXAMPLES: 10,
        rounds.VALIDATION_LOSS: 0.5,
        rounds.VALIDATION_AUROC: 0.75,
    }
    if arrays is None:
        figures[rounds.THRESHOLD] = 0.1
    else:
        figures |= {rounds.EXAMPLES: examples, rounds.TRAIN_LOSS: 0.4, rounds.SECONDS: 0.01}
    figures |= changes
    content = RecordDict(
        {
            rounds.METRICS: MetricRecord({k: v for k, v in figures.items() if v is not None}),
            rounds.ABOUT: ConfigRecord({rounds.PARTITIONS: "p1"}),
        }
    )
    if arrays is not None:
        content[rounds.ARRAYS] = arrays
    return content


def echo(message: Message, context: Context) -> RecordDict:
    """Send back what came."""
    return reply(message.content.array_records[rounds.ARRAYS])


def federate(
    clients: Mapping[str, Client],
    observers: Sequence[rounds.RoundObserver] = (),
    start: Sequence[float] = (0.0, 0.0),
    **recipe: Any,
) -> tuple[Result, ConsortiumStrategy]:
    """Run the real strategy over the in-process grid; hospitals without a client echo."""
    app = ClientApp(mods=[keep_details_home])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client = clients.get(str(context.node_config["hospital"]), echo)
        return Message(client(message, context), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return Message(reply(), reply_to=message)

    asked = Recipe(**{"name": "little", "model": LogisticRegressionConfig(), "rounds": 1} | recipe)
    grid = InProcessGrid(app, dict.fromkeys(HOSPITALS, "file:///nowhere"), {}, run_id=1)
    hospitals = {node.node_id: node.name for node in grid.get_nodes()}
    strategy = ConsortiumStrategy(
        build_strategy(asked, len(hospitals)), asked, hospitals, observers
    )
    result = strategy.start(
        grid, arrays_of(*start), num_rounds=asked.rounds, timeout=asked.round_deadline
    )
    return result, strategy

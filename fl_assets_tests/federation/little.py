"""A federation without patients: one weight, and clients that do what a test tells them to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import Result

from fl_assets.federation import rounds
from fl_assets.federation.client_app import keep_details_home
from fl_assets.federation.flower_internals import NodeInfo
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.runtimes.inprocess import InProcessGrid
from fl_assets.federation.site_config import SiteConfig
from fl_assets.federation.statement import PrivacyStatement
from fl_assets.federation.strategies.consortium import ConsortiumStrategy, OnModel
from fl_assets.federation.strategies.flower import build_strategy
from fl_assets.learning.configs import LogisticRegressionConfig

Client = Callable[[Message, Context], RecordDict]
HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")
RUN = "little-run"


def arrays_of(*values: float, dtype: str = "float32") -> ArrayRecord:
    """A model of one weight vector."""
    return ArrayRecord({"w": Array(np.array(values, dtype=dtype))})


def values_of(arrays: ArrayRecord) -> list[float]:
    """Undo :func:`arrays_of`."""
    return [float(v) for v in arrays["w"].numpy()]


def round_of(message: Message) -> int:
    """The round that a message belongs to."""
    return int(message.content.config_records[rounds.CONFIG][rounds.ROUND])


STATEMENT = PrivacyStatement(lifetime=0.0, cap=3.0, unprotected_runs=1, head=None)


def reply(arrays: ArrayRecord | None = None, examples: int = 1, **changes: Any) -> RecordDict:
    """A well-formed reply to a train message, or to an evaluate message without arrays."""
    figures: dict[str, Any] = {
        rounds.VALIDATION_EXAMPLES: 10,
        rounds.VALIDATION_LOSS: 0.5,
        rounds.VALIDATION_AUROC: 0.75,
    }
    if arrays is None:
        figures[rounds.THRESHOLD] = 0.1
        figures[rounds.PERSONAL_VALIDATION_LOSS] = figures[rounds.PERSONAL_VALIDATION_AUROC] = (
            math.nan
        )
    else:
        figures |= {rounds.EXAMPLES: examples, rounds.TRAIN_LOSS: 0.4, rounds.SECONDS: 0.01}
    figures |= changes
    content = RecordDict(
        {
            rounds.METRICS: MetricRecord({k: v for k, v in figures.items() if v is not None}),
            rounds.ABOUT: ConfigRecord({rounds.PARTITIONS: "p1"}),
        }
    )
    if arrays is None:
        content[rounds.PRIVACY] = ConfigRecord({rounds.PRIVACY: STATEMENT.model_dump_json()})
    else:
        content[rounds.ARRAYS] = arrays
    return content


def answer(message: Message, content: RecordDict) -> Message:
    """Reply to a message, with its marks sent back unless the content has marks of its own."""
    asked = message.content.config_records[rounds.CONFIG]
    if about := content.config_records.get(rounds.ABOUT):
        for mark in (rounds.RUN, rounds.ROUND, rounds.NONCE):
            about.setdefault(mark, asked[mark])
    return Message(content, reply_to=message)


def echo(message: Message, context: Context) -> RecordDict:
    """Send back what came."""
    return reply(message.content.array_records[rounds.ARRAYS])


def little_recipe(**changes: Any) -> Recipe:
    """A recipe of one round."""
    return Recipe(**{"name": "little", "model": LogisticRegressionConfig(), "rounds": 1} | changes)


class Grid(InProcessGrid):
    """The in-process grid, over hospitals that come and go."""

    def __init__(
        self,
        clients: Mapping[str, Client],
        names: Sequence[str] = HOSPITALS,
        action: str = "default",
    ) -> None:
        app = ClientApp(mods=[keep_details_home])

        @app.train(action)
        def train(message: Message, context: Context) -> Message:
            client = clients.get(str(context.node_config["hospital"]), echo)
            return answer(message, client(message, context))

        @app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            return answer(message, reply())

        nodes = {name: SiteConfig(hospital=name, store="file:///nowhere") for name in names}
        super().__init__(app, nodes, {}, run_id=1)
        self.away: set[str] = set()

    @property
    def hospitals(self) -> dict[int, str]:
        """Name by node id of those that are there."""
        return {node.node_id: node.name for node in self.get_nodes()}

    def get_nodes(self) -> list[NodeInfo]:
        """Return the nodes that are there."""
        return [node for node in super().get_nodes() if node.name not in self.away]

    def get_node_ids(self) -> list[int]:
        """Return their ids."""
        return [node.node_id for node in self.get_nodes()]


def federate(
    clients: Mapping[str, Client],
    observers: Sequence[rounds.RoundObserver] = (),
    start: Sequence[float] = (0.0, 0.0),
    on_model: OnModel | None = None,
    **recipe: Any,
) -> tuple[Result, ConsortiumStrategy]:
    """Run the real strategy over the in-process grid; hospitals without a client echo."""
    asked = little_recipe(**recipe)
    grid = Grid(clients)
    strategy = ConsortiumStrategy(
        build_strategy(asked, len(HOSPITALS)),
        asked,
        RUN,
        grid.hospitals,
        observers,
        on_model=on_model,
    )
    result = strategy.start(
        grid, arrays_of(*start), num_rounds=asked.rounds, timeout=asked.round_deadline
    )
    return result, strategy

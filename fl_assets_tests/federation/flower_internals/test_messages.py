"""The contract with what Flower does not promise to keep."""

import ast
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

import fl_assets
from fl_assets.federation import flower_internals as internals

PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy"}


@pytest.fixture
def message() -> Message:
    internals.identify_process(77)
    content = RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(np.array([[1.5, -0.0]], dtype=np.float32))}),
            "metrics": MetricRecord({"loss": float("nan"), "n": 3}),
            "config": ConfigRecord({"server-round": 4, "words": "ok", "raw": b"\x00"}),
        }
    )
    return Message(content, dst_node_id=9, message_type="train")


def test_flower_is_the_release_that_this_was_written_for() -> None:
    version = metadata.version("flwr")
    assert version.startswith("1.41."), (
        f"flwr {version}: run these tests, read flower_internals/ against the new release, then "
        "move the pin in pyproject.toml and this line"
    )


def test_no_other_module_leans_on_flowers_internals() -> None:
    found = []
    for path in Path(fl_assets.__file__).parent.rglob("*.py"):
        if path.parent.name == "flower_internals":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            found += [
                f"{path}: {module}"
                for module in modules
                if module and module.split(".")[0] == "flwr" and module not in PUBLIC
            ]
    assert found == []


def test_a_message_needs_the_process_identified(message: Message) -> None:
    assert message.metadata.run_id == 77
    assert message.metadata.src_node_id == 1
    assert message.metadata.dst_node_id == 9


def test_a_stamped_message_is_what_its_reply_answers(message: Message) -> None:
    stamped = internals.stamp(message)
    reply = Message(RecordDict(), reply_to=message)
    assert reply.metadata.reply_to_message_id == stamped
    assert (reply.metadata.src_node_id, reply.metadata.dst_node_id) == (9, 1)
    assert internals.stamp(message) != stamped


def test_the_wire_keeps_a_message_and_copies_it(message: Message) -> None:
    stamped = internals.stamp(message)
    copy = internals.message_over_the_wire(message)

    assert copy.metadata.message_id == stamped
    assert copy.metadata.message_type == "train"
    sent, got = message.content, copy.content
    array = got.array_records["arrays"]["w"].numpy()
    assert array.dtype == np.float32
    assert array.tobytes() == sent.array_records["arrays"]["w"].numpy().tobytes()
    assert np.isnan(got.metric_records["metrics"]["loss"])
    assert dict(got.config_records["config"]) == dict(sent.config_records["config"])
    got.config_records["config"]["words"] = "changed"
    del got["arrays"]
    assert sent.config_records["config"]["words"] == "ok"
    assert "arrays" in sent


def test_the_wire_keeps_state_and_copies_it() -> None:
    state = RecordDict({"seen": MetricRecord({"rounds": 2})})
    context = Context(
        run_id=5, node_id=3, node_config={"hospital": "a"}, state=state, run_config={"run": "r"}
    )

    copy = internals.state_over_the_wire(context)

    assert (copy.run_id, copy.node_id) == (5, 3)
    assert (copy.node_config, copy.run_config) == ({"hospital": "a"}, {"run": "r"})
    copy.state.metric_records["seen"]["rounds"] = 3
    assert context.state.metric_records["seen"]["rounds"] == 2


def test_a_client_that_raises_is_answered_for(message: Message) -> None:
    internals.stamp(message)
    reply = internals.message_over_the_wire(
        internals.client_error(ValueError("what went wrong"), message)
    )
    assert reply.has_error()
    assert reply.error.reason == "ValueError: what went wrong"
    assert reply.metadata.src_node_id == 9


def test_a_run_and_a_node_have_what_the_grid_gives() -> None:
    assert internals.new_run(5).run_id == 5
    node = internals.NodeInfo(node_id=3, name="hospital-a", status="online")
    assert (node.node_id, node.name) == (3, "hospital-a")


def test_apps_are_plain_callables_and_the_first_mod_is_the_outermost(message: Message) -> None:
    calls = []

    def outer(m: Message, c: Context, call_next: internals.ClientAppCallable) -> Message:
        calls.append("mod")
        return call_next(m, c)

    app = ClientApp(mods=[outer])

    @app.train()
    def train(m: Message, c: Context) -> Message:
        calls.append("app")
        return Message(RecordDict(), reply_to=m)

    context = Context(run_id=1, node_id=9, node_config={}, state=RecordDict(), run_config={})
    app(message, context)
    assert calls == ["mod", "app"]

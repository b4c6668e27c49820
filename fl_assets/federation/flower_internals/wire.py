"""Messages over the Runtime API, in as few requests as Flower allows.

Flower pulls and pushes every record, array and chunk of a message as an object of its own, with a
request each. Here a message's whole content travels in one record, as the bytes of Flower's own
wire format, so a message is three objects, whatever the model; and of these only the record has to
be pulled, for the rest is in the list of messages already.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import (
    message_from_proto,
    message_to_proto,
    recorddict_from_proto,
    recorddict_to_proto,
)
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.node_pb2 import Node
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PushAppMessagesRequest
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError
from flwr.supercore.runtime import RuntimeHttpClient

from fl_assets.errors import FlAssetsError

INCOMPLETE_SECONDS = 5.0
"""After which a message whose content has not arrived is taken to be all that its sender sent."""

_PACKED = "packed"
_RETRY_SECONDS = 0.01


class IncompleteMessageError(FlAssetsError):
    """A message without its content, or with one that is not packed."""


def pack(message: Message) -> Message:
    """Return a message with the same metadata and its content, if any, in one record."""
    if not message.has_content():
        return message
    data = recorddict_to_proto(message.content).SerializeToString(deterministic=True)
    content = RecordDict({_PACKED: ConfigRecord({_PACKED: data})})
    return make_message(metadata=message.metadata, content=content)


def unpack(record: bytes) -> RecordDict:
    """Return the content whose record, in the form in which objects are stored, is given.

    Raises:
        IncompleteMessageError: the record is none that :func:`pack` made.
    """
    try:
        data = ConfigRecord.inflate(record)[_PACKED]
        if not isinstance(data, bytes):
            raise TypeError(type(data))
        return recorddict_from_proto(RecordDictProto.FromString(data))
    except Exception as error:
        # Whatever a sender has put there.
        raise IncompleteMessageError("a message came that is not packed") from error


class Wire:
    """Sends and receives messages for one task.

    Args:
        client: of the Runtime API, with the task's token.
        node_id: of this end.
        run_id: of the task.
    """

    def __init__(self, client: RuntimeHttpClient, node_id: int, run_id: int) -> None:
        self._client = client
        self._node = Node(node_id=node_id)
        self._run_id = run_id

    def send(self, messages: Iterable[Message]) -> list[str]:
        """Send messages; set and return their ids, empty for one that is not taken."""
        objects: dict[str, InflatableObject] = {}
        protos, trees = [], []
        with no_object_id_recompute():
            for message in messages:
                packed = pack(message)
                packed.metadata.__dict__["_message_id"] = packed.object_id
                protos.append(message_to_proto(remove_content_from_message(packed)))
                trees.append(get_object_tree(packed))
                objects |= get_all_nested_objects(packed)
            answer = self._client.PushMessages(
                PushAppMessagesRequest(messages_list=protos, message_object_trees=trees)
            )
            push = make_push_object_fn_protobuf(
                self._client.PushObject, self._node, self._run_id, answer.session_id
            )
            for object_id in answer.objects_to_push:
                push(object_id, objects[object_id].deflate())
        return list(answer.message_ids)

    def receive(self, answering: Iterable[str] = ()) -> list[Message]:
        """Return the messages that are there, each once.

        One whose content does not come, or is not what it should be, is an error message.

        Args:
            answering: ids of messages, to get the replies to them.
        """
        answer = self._client.PullMessages(PullAppMessagesRequest(message_ids=answering))
        pairs = zip(answer.messages_list, answer.message_object_trees, strict=True)
        return [self._complete(proto, tree) for proto, tree in pairs]

    def _complete(self, proto: MessageProto, tree: ObjectTree) -> Message:
        message = message_from_proto(proto)
        if message.has_content():
            try:
                message.content = unpack(self._record(tree))
            except IncompleteMessageError as error:
                failed = Error(ErrorCode.MESSAGE_UNAVAILABLE, str(error))
                message = make_message(metadata=message.metadata, error=failed)
        self._client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(
                node=self._node, run_id=self._run_id, message_object_id=tree.object_id
            )
        )
        return message

    def _record(self, tree: ObjectTree) -> bytes:
        """Return the packed record of a message, which is the child of the child of its root."""
        leaves: Sequence[ObjectTree] = [leaf for child in tree.children for leaf in child.children]
        if len(leaves) != 1:
            raise IncompleteMessageError("a message came that is not packed")
        pull = make_pull_object_fn_protobuf(self._client.PullObject, self._node, self._run_id)
        end = time.monotonic() + INCOMPLETE_SECONDS
        while time.monotonic() < end:
            try:
                return pull(leaves[0].object_id)
            except ObjectUnavailableError:
                time.sleep(_RETRY_SECONDS)
            except ObjectPullError:
                break
        raise IncompleteMessageError("a message came without its content: its sender has stopped")

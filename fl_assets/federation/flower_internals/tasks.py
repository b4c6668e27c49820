"""The Runtime API from the side of an executor: take a task, do it, hand in its result."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import httpx
from flwr.app import Context, Error, Message, UserConfig
from flwr.common.constant import ErrorCode, SubStatus
from flwr.common.serde import context_from_proto, context_to_proto, run_from_proto
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    GetNodesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TASK_TOKEN_HEADER, TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.retry import RetryInvoker, exponential
from flwr.supercore.run import Run
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity

from fl_assets.errors import FlAssetsError
from fl_assets.federation.flower_internals.wire import Wire

_GIVE_UP_SECONDS = 10.0
"""Of asking a Runtime API that does not answer; it is a process of the same machine or pod."""

_RETRY_SECONDS = 0.01


class TaskLostError(FlAssetsError):
    """A task that Flower has taken back."""

    def __init__(self, why: object) -> None:
        super().__init__(f"the task is no longer to be done, its run may have ended: {why}")


class Kind(Enum):
    """Which half of an app a task is for."""

    SITE = TaskType.CLIENT_APP
    SERVER = TaskType.SERVER_APP


@dataclass(frozen=True)
class Task:
    """A task that this process has taken.

    Attributes:
        context: with the node's config, and the state that the last task left.
        run: the run.
        bundle_hash: SHA-256 of the app bundle that the run was started with.
        wire: to the other half of the app.
    """

    context: Context
    run: Run
    bundle_hash: str
    wire: Wire

    @property
    def run_config(self) -> UserConfig:
        """What the run was started with, beside its bundle."""
        return self.run.override_config


class Tasks:
    """The tasks of one Runtime API, one at a time, over one connection.

    Flower's own executor starts a process per task, which connects anew.

    Args:
        address: ``host:port`` of a SuperLink or SuperNode in process isolation.
        secret: its SuperExec secret.
        ca: certificates of the authority, PEM; plain HTTP if None.
    """

    def __init__(self, address: str, secret: bytes, ca: bytes | None) -> None:
        self._token = _Token()
        self._client = RuntimeHttpClient.from_server_address(
            address,
            insecure=ca is None,
            root_certificates=ca,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperExec"),
                SuperExecAuthHttpInterceptor(
                    master_secret=secret,
                    protected_methods={"/flwr.proto.Runtime/AcquireTask"},
                ),
                self._token,
            ],
            # Flower's own ends the process where a task is no longer its own.
            retry_invoker=RetryInvoker(
                lambda: exponential(base_delay=_RETRY_SECONDS),
                httpx.TransportError,
                max_tries=None,
                max_time=_GIVE_UP_SECONDS,
            ),
        )
        HeartbeatSender(self._beat).start()

    def take(self, kind: Kind) -> Task:
        """Wait for a task, take it and tell Flower that this process does it.

        Raises:
            TaskLostError: it was taken back at once.
        """
        request = AcquireTaskRequest(supported_task_types=[kind.value])
        while not (taken := self._client.AcquireTask(request)).token:
            time.sleep(_RETRY_SECONDS)
        self._token.value = taken.token
        with self._lost():
            given = self._client.PullTaskInput(PullTaskInputRequest())
        context, run = context_from_proto(given.context), run_from_proto(given.run)
        TaskIdentity.task_id = given.task_id
        TaskIdentity.run_id = run.run_id
        TaskIdentity.node_id = context.node_id
        return Task(
            context,
            run,
            hashlib.sha256(given.fab.content).hexdigest(),
            Wire(self._client, context.node_id, run.run_id),
        )

    def message(self, task: Task) -> Message:
        """Return the message that a site's task is about.

        Raises:
            TaskLostError: its run has ended.
        """
        # A task may be there a moment before its message.
        end = time.monotonic() + _GIVE_UP_SECONDS
        with self._lost():
            while not (messages := task.wire.receive()):
                if time.monotonic() > end:
                    self._token.value = ""
                    raise TaskLostError("its message is not there")
                time.sleep(_RETRY_SECONDS)
        return messages[0]

    def reply(self, task: Task, message: Message) -> None:
        """Hand in the reply of a site's task.

        Raises:
            TaskLostError: its run has ended.
        """
        with self._lost():
            task.wire.send([message])

    def nodes(self) -> list[NodeInfo]:
        """Return the nodes that are connected, for the server's task."""
        return list(self._client.GetNodes(GetNodesRequest()).nodes)

    def finish(self, context: Context | None, error: str = "") -> None:
        """End the task.

        Args:
            context: whose state the next task gets; the one before keeps it if None.
            error: why it failed, if it did.

        Raises:
            TaskLostError: its run has ended.
        """
        request = PushTaskOutputRequest(
            context=None if context is None else context_to_proto(context),
            sub_status=SubStatus.FAILED if error else SubStatus.COMPLETED,
            details=error,
        )
        with self._lost():
            self._client.PushTaskOutput(request)
        self._token.value = ""

    @contextmanager
    def _lost(self) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPStatusError, ObjectPushError) as error:
            # Else heartbeats would keep it alive for Flower, which might wait for its reply.
            self._token.value = ""
            raise TaskLostError(error) from error

    def _beat(self) -> bool:
        # A task whose executor is silent for a minute is given up.
        if self._token.value:
            try:
                self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            except httpx.HTTPError:
                # The task has just ended, or the main thread finds out what is wrong.
                return True
        return True


class _Token:
    """Puts the token of the task at hand into every request."""

    def __init__(self) -> None:
        self.value = ""

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        if self.value:
            context.request.headers[TASK_TOKEN_HEADER] = self.value
        return call_next(context)


def refusal(reason: str, message: Message) -> Message:
    """Return the reply of a site that does not run a run's app."""
    return Message(Error(ErrorCode.INVALID_FAB, reason), reply_to=message)

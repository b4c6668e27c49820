"""How a request travels to a hospital's pod and its answer back: as objects in the coordinator's
store, under ``tasks/<hospital>/<id>/``.

A hospital may read that folder of its own and put its answer there, and nothing else
(:func:`fl_assets.storage.policies.task_policy`).
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Generic

from pydantic import TypeAdapter, ValidationError, model_validator

from fl_assets.config import StrictModel
from fl_assets.errors import BadDataError, FlAssetsError
from fl_assets.settings import Settings
from fl_assets.site.egress import EgressLog
from fl_assets.site.tasks.base import Answer, Request, answer_type, perform
from fl_assets.site.tasks.data import DataRequest
from fl_assets.storage import SiteStore, StorageError

LARGEST_REQUEST = 360 * 2**20
"""Bytes; two models of the largest size in base64, and what else there is."""

LARGEST_ANSWER = 16 * 2**20
"""Bytes; answers are figures, a manifest or a report on uploads."""

_ID = re.compile(r"[0-9a-f]{32}")


class BadRequestError(BadDataError):
    """What lies in the coordinator's store is no request."""


class TooLargeError(BadDataError):
    """An object is larger than anything that could be meant."""

    def __init__(self, key: str, limit: int) -> None:
        super().__init__(
            f"{key} has more than {limit:,} bytes, which no request or answer needs: bring the "
            "coordinator and the hospital to the same version of the software, and give the recipe "
            "a smaller model"
        )


class Failure(StrictModel):
    """An error of this project's, which names no patient's value.

    Attributes:
        error: its type.
        message: what to do.
        final: whether a retry can never help.
    """

    error: str
    message: str
    final: bool

    @classmethod
    def of(cls, error: FlAssetsError) -> Failure:
        """Return an error as data."""
        name, final = type(error).__name__, isinstance(error, BadDataError)
        return cls(error=name, message=str(error), final=final)


class Reply(StrictModel, Generic[Answer]):
    """What comes back: an answer, or why there is none."""

    answer: Answer | None = None
    failure: Failure | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Reply[Answer]:
        if (self.answer is None) == (self.failure is None):
            raise ValueError("must hold an answer or a failure")
        return self


def request_key(hospital: str, task: str) -> str:
    """Where the request of a task is."""
    return f"tasks/{hospital}/{task}/request.json"


def answer_key(hospital: str, task: str) -> str:
    """Where the reply to it goes."""
    return f"tasks/{hospital}/{task}/answer.json"


def read_bounded(store: SiteStore, key: str, limit: int) -> bytes:
    """Return an object, of which no more than the limit is ever held in memory.

    Raises:
        ObjectNotFoundError: there is none.
        TooLargeError: it has more than ``limit`` bytes.
    """
    with store.open(key) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise TooLargeError(key, limit)
    return data


def parse_reply(request: Request[Answer], data: bytes) -> Answer | Failure:
    """Return what a hospital replied to a request.

    Raises:
        pydantic.ValidationError: it is no reply to it.
    """
    reply = _reply_to(request).model_validate_json(data)
    found: Answer | Failure = reply.failure if reply.answer is None else reply.answer
    return found


def _reply_to(request: Request[Answer]) -> Any:
    return Reply.__class_getitem__(answer_type(request))


def answer(settings: Settings, hospital: str, task: str) -> None:
    """Carry out a request that lies in the coordinator's store, and put the reply beside it.

    Args:
        settings: of the hospital's process.
        hospital: name.
        task: id of the task.

    Raises:
        BadRequestError: there is no such task, or it is none that a hospital may be asked.
        FlAssetsError: what the task itself raises; the reply says so as well.
    """
    if not _ID.fullmatch(task):
        raise BadRequestError("the id of a task has 32 hexadecimal digits: this one was mistyped")
    store, key = settings.coordinator_store(), answer_key(hospital, task)
    run = f"task {task}"
    try:
        request = _load(store, request_key(hospital, task))
        run = request.run
        found = perform(settings, hospital, request)
    except FlAssetsError as error:
        reply = Reply(failure=Failure.of(error)).model_dump_json().encode()
        # The error matters more than that it cannot be told, or not be written down first.
        with suppress(StorageError):
            log = EgressLog(settings.site_store(hospital))
            store.put(key, log.release("failure", run, reply, f"task {task}"))
        raise
    store.put(key, _reply_to(request)(answer=found).model_dump_json().encode())


def parse_request(data: bytes) -> Request[Any]:
    """Return a request of the closed set.

    Raises:
        pydantic.ValidationError: it is none of them.
        WeightsTooLargeError, UnreadableWeightsError: it brings a model that cannot be.
    """
    try:
        about_data: Request[Any] = TypeAdapter(DataRequest).validate_json(data)
    except ValidationError as error:
        if error.errors(include_input=False)[0]["type"] != "union_tag_invalid":
            raise
    else:
        return about_data
    # Torch, which takes a pod longer to load than most of what it is asked about its data.
    from fl_assets.site.tasks.models import ModelRequest

    about_models: Request[Any] = TypeAdapter(ModelRequest).validate_json(data)
    return about_models


def _load(store: SiteStore, key: str) -> Request[Any]:
    data = read_bounded(store, key, LARGEST_REQUEST)
    try:
        return parse_request(data)
    except ValidationError as error:
        # Not its text, which quotes what was sent.
        raise BadRequestError(
            f"{key} is none of the requests that this hospital knows, {error.error_count()} fields "
            "do not fit: bring the coordinator and the hospital to the same version of the software"
        ) from None

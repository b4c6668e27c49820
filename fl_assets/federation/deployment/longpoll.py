"""Long polling for Flower's HTTP APIs, which answer "nothing yet" at once.

Whoever waits for news asks again and again, and each request costs Flower's server milliseconds
of CPU: five of them asking a hundred times a second would need more than a core. So a request
whose caller was last told "nothing" is held back until there may be something.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import FIRST_COMPLETED
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

HOLD_SECONDS = 0.5
"""The longest that a request is held; also how late a waiting caller may see its own deadline."""

TELLING_SECONDS = 5.0
"""After which somebody who has not finished telling is taken to have died."""

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Topics:
    """Which requests are about what; paths to names of topics.

    Attributes:
        asks: requests for news of a topic; the answer has all that was told.
        tells: requests that bring news in several parts. The news are complete when the same
            caller next asks for something: nobody does both at once.
        rings: requests that bring news at once.
        callers: headers that tell callers apart.
    """

    asks: Mapping[str, str]
    tells: Mapping[str, str] = field(default_factory=dict)
    rings: Mapping[str, str] = field(default_factory=dict)
    callers: frozenset[bytes] = frozenset()


class LongPoll:
    """An ASGI app that holds back requests of another one.

    A request for news of a topic waits while somebody is telling them, lest it get half of them,
    and while nobody has told any since its caller last asked. It neither reads nor changes what
    goes through; with it switched off everything works, slowly.

    Args:
        app: does the work.
        topics: what it is about.
        listeners: called when a topic rings, by topic.
    """

    def __init__(
        self,
        app: App,
        topics: Topics,
        listeners: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        self._app = app
        self._topics = topics
        self._listeners = listeners or {}
        self._news: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        # What a caller got when it last asked was told before this.
        self._asked: dict[tuple[str, bytes], asyncio.Event] = {}
        # Since when a caller has been telling, by topic.
        self._telling: dict[str, dict[bytes, float]] = defaultdict(dict)

    def ring(self, topic: str) -> None:
        """Let everybody who waits for news of a topic ask; from the server's own thread."""
        self._news.pop(topic, asyncio.Event()).set()
        if topic in self._listeners:
            self._listeners[topic]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        topics, path = self._topics, str(scope.get("path"))
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = b"".join(v for name, v in scope["headers"] if name in topics.callers)
        if path in topics.asks:
            await self._ask(topics.asks[path], caller, scope, receive, send)
            return
        if path in topics.tells:
            self._telling[topics.tells[path]].setdefault(caller, time.monotonic())
        await self._app(scope, receive, send)
        if path in topics.rings:
            self.ring(topics.rings[path])

    async def _ask(
        self, topic: str, caller: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        for told, callers in self._telling.items():
            if callers.pop(caller, None) is not None:
                self.ring(told)
        request = _Replay(await _body(receive), receive)
        before = self._asked.get((topic, caller))
        if await _stays(self._to_come(topic, before), receive):
            self._asked[(topic, caller)] = self._news[topic]
            # Without the caller this would give it what would then be lost.
            await self._app(scope, request, send)

    async def _to_come(self, topic: str, before: asyncio.Event | None) -> None:
        """Return when there may be news of a topic since ``before``, and they are complete."""
        if before is not None:
            await before.wait()
        while self._is_told(topic):
            await self._news[topic].wait()

    def _is_told(self, topic: str) -> bool:
        # Somebody who died over it is not waited for.
        since = time.monotonic() - TELLING_SECONDS
        return any(begun > since for begun in self._telling[topic].values())


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    return body


class _Replay:
    """Gives a body that was read already, then whatever else comes."""

    def __init__(self, body: bytes, rest: Receive) -> None:
        self._body: bytes | None = body
        self._rest = rest

    async def __call__(self) -> Event:
        if self._body is None:
            return await self._rest()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _stays(awaited: Coroutine[Any, Any, None], receive: Receive) -> bool:
    """Wait, at most ``HOLD_SECONDS``; tell whether the caller has waited too."""
    waiting = asyncio.ensure_future(awaited)
    await asyncio.sleep(0)
    if waiting.done():
        return True
    leaving = asyncio.ensure_future(receive())
    tasks = {waiting, leaving}
    done, left = await asyncio.wait(tasks, timeout=HOLD_SECONDS, return_when=FIRST_COMPLETED)
    for task in left:
        task.cancel()
    return leaving not in done

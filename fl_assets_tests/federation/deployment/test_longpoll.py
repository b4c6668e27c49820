"""A toy API whose answers say what was there when the request got through."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fl_assets.federation.deployment import longpoll
from fl_assets.federation.deployment.longpoll import LongPoll, Topics

LONG = 30.0  # nobody waits as long
TOPICS = Topics(
    asks={"/node/ask": "messages", "/server/ask": "replies"},
    tells={"/server/tell": "messages", "/node/tell": "replies"},
    rings={"/now": "messages"},
    callers=frozenset({b"who"}),
)


class Api:
    """Counts what it was told, and answers with that."""

    def __init__(self, listeners: dict[str, Callable[[], None]] | None = None) -> None:
        self.told = 0
        self.bodies: list[bytes] = []
        self.poll = LongPoll(self._serve, TOPICS, listeners)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        self.bodies.append((await receive())["body"])
        if scope["path"].endswith(("/tell", "/now")):
            self.told += 1
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": str(self.told).encode()})

    def request(self, path: str, who: str = "a", body: bytes = b"") -> Awaitable[str | None]:
        """Return the answer; None if the caller left before it came."""
        return self._request(path, who, body, asyncio.Event())

    async def _request(self, path: str, who: str, body: bytes, leave: asyncio.Event) -> str | None:
        half = len(body) // 2
        parts = [
            {"type": "http.request", "body": body[:half], "more_body": True},
            {"type": "http.request", "body": body[half:], "more_body": False},
        ]
        answer: list[bytes] = []

        async def receive() -> Any:
            if parts:
                return parts.pop(0)
            await leave.wait()
            return {"type": "http.disconnect"}

        async def send(event: Any) -> None:
            answer.append(event.get("body", b""))

        scope = {"type": "http", "path": path, "headers": [(b"who", who.encode())]}
        await self.poll(scope, receive, send)
        return b"".join(answer).decode() if answer else None


async def settled(task: "asyncio.Task[Any]") -> bool:
    """Tell whether a task ends without anything else happening."""
    for _ in range(20):
        await asyncio.sleep(0)
    return task.done()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longpoll, "HOLD_SECONDS", LONG)
    monkeypatch.setattr(longpoll, "TELLING_SECONDS", LONG)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(), LONG / 3)

    asyncio.run(limited())


def test_who_asks_again_waits_for_news() -> None:
    async def test() -> None:
        api = Api()
        assert await api.request("/node/ask") == "0"
        again = asyncio.ensure_future(api.request("/node/ask"))
        other = asyncio.ensure_future(api.request("/node/ask", "b"))
        assert await settled(other)
        assert not await settled(again)
        await api.request("/now")
        assert await again == "1"

    run(test)


def test_news_are_for_those_whom_they_concern() -> None:
    async def test() -> None:
        api = Api()
        await api.request("/server/ask", "s")
        waits = asyncio.ensure_future(api.request("/server/ask", "s"))
        await api.request("/now")
        assert not await settled(waits)
        waits.cancel()

    run(test)


def test_news_are_told_in_parts_and_heard_whole() -> None:
    async def test() -> None:
        api = Api()
        await api.request("/node/ask")
        waits = asyncio.ensure_future(api.request("/node/ask"))
        await api.request("/server/tell", "s")
        newcomer = asyncio.ensure_future(api.request("/node/ask", "b"))
        await api.request("/server/tell", "s")
        assert not await settled(waits)
        assert not await settled(newcomer)
        # Whoever asks has finished telling.
        assert await api.request("/server/ask", "s") == "2"
        assert [await waits, await newcomer] == ["2", "2"]

    run(test)


def test_one_of_several_who_tell_is_not_heard_half_because_another_has_finished() -> None:
    async def test() -> None:
        api = Api()
        waits = asyncio.ensure_future(api.request("/server/ask", "s"))
        assert await waits == "0"
        waits = asyncio.ensure_future(api.request("/server/ask", "s"))
        await api.request("/node/tell", "a")
        await api.request("/node/tell", "b")
        finished = asyncio.ensure_future(api.request("/node/ask", "a"))
        assert await settled(finished)
        assert not await settled(waits)
        await api.request("/node/ask", "b")
        assert await waits == "2"

    run(test)


def test_what_was_told_while_somebody_was_away_is_there_at_once() -> None:
    async def test() -> None:
        api = Api()
        await api.request("/node/ask")
        await api.request("/now")
        assert await api.request("/node/ask") == "1"

    run(test)


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longpoll, "HOLD_SECONDS", 0.01)

    async def test() -> None:
        api = Api()
        assert [await api.request("/node/ask") for _ in range(3)] == ["0", "0", "0"]
        await api.request("/server/tell", "dies over it")
        assert await api.request("/node/ask") == "1"

    run(test)


def test_who_died_while_telling_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longpoll, "TELLING_SECONDS", 0.0)

    async def test() -> None:
        api = Api()
        await api.request("/server/tell", "dies over it")
        assert await api.request("/node/ask") == "1"

    run(test)


def test_a_caller_who_left_is_given_nothing() -> None:
    async def test() -> None:
        api = Api()
        await api.request("/node/ask")
        leave = asyncio.Event()
        waits = asyncio.ensure_future(api._request("/node/ask", "a", b"", leave))
        assert not await settled(waits)
        leave.set()
        assert await waits is None
        await api.request("/now")
        assert await api.request("/node/ask") == "1"

    run(test)


def test_bodies_arrive_as_they_were_sent() -> None:
    async def test() -> None:
        api = Api()
        await api.request("/node/ask", body=b"abcd")
        assert api.bodies == [b"abcd"]

    run(test)


def test_listeners_hear_every_ring() -> None:
    heard: list[str] = []

    async def test() -> None:
        api = Api({"messages": lambda: heard.append("messages")})
        await api.request("/now")
        await api.request("/node/tell")
        api.poll.ring("messages")

    run(test)
    assert heard == ["messages"] * 2

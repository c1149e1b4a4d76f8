"""Owns a mixed load on a service that never stops changing: requests with known answers, clients that go away, aliases
that move, adapters that are deleted and come back under the same name with other weights."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

# What a request may be told whose adapter is deleted meanwhile: while it runs, loads, or is about to load.
_DELETED = (
    "deleted while it was in use",
    "removed while it was being loaded",
    "not stored any more",
)
_LONG_ANSWER = 200


@dataclass(frozen=True, slots=True)
class Content:
    """Weights with known answers: one text per prompt, None where rounding may decide."""

    files: Mapping[str, bytes]
    answers: Sequence[str | None]


@dataclass(eq=False, slots=True)
class Ask:
    """A request under way: whose answers it may give, and whether it may find nothing."""

    allowed: set[int]
    may_fail: bool


@dataclass(eq=False, slots=True)
class Name:
    """An adapter of a tenant.

    Attributes:
        versions: content by version number; `prod` the number the alias names.
        now: contents that a request sent at this moment may meet; `gone`: it may also meet none.
    """

    client: httpx.AsyncClient
    name: str
    versions: dict[int, int] = field(default_factory=dict)
    prod: int = 1
    now: set[int] = field(default_factory=set)
    gone: bool = False
    changing: bool = False
    asks: set[Ask] = field(default_factory=set)

    def may_become(self, content: int) -> None:
        """From now on a request may meet this content too, also one that was sent before."""
        self.now.add(content)
        for ask in self.asks:
            ask.allowed.add(content)

    def may_vanish(self) -> None:
        self.gone = True
        for ask in self.asks:
            ask.may_fail = True


class SoakLoad:
    """Sends `requests` requests, `concurrency` at a time.

    Attributes:
        wrong: what should not have happened. checked, aborted, promoted, replaced: how often what did.
    """

    def __init__(
        self,
        names: Sequence[Name],
        contents: Sequence[Content],
        prompts: Sequence[Sequence[int]],
        tokens: int,
        seed: int = 0,
    ) -> None:
        self.wrong: list[str] = []
        self.checked = self.unclear = self.aborted = self.promoted = self.replaced = (
            self.refused
        ) = 0
        self._names, self._contents = names, contents
        self._prompts, self._tokens = prompts, tokens
        self._rng = random.Random(seed)
        used = {content for name in names for content in name.versions.values()}
        self._spare = [content for content in range(len(contents)) if content not in used]

    async def run(
        self, requests: int, concurrency: int, every: Callable[[int], None] = lambda _: None
    ) -> None:
        """Returns when all have ended; calls `every` with the number of each request."""
        left = iter(range(requests))

        async def worker() -> None:
            for number in left:
                every(number)
                await self._one()

        await asyncio.gather(*(worker() for _ in range(concurrency)))

    async def _one(self) -> None:
        # A few names get most requests, and every one gets some.
        name = self._names[int(len(self._names) * self._rng.random() ** 3)]
        dice = self._rng.random()
        change: Callable[[Name], Awaitable[None]] | None = None
        if dice < 0.05 and len(name.versions) > 1:
            change = self._promote
        elif dice > 0.995 and self._spare:
            change = self._replace
        if change is not None and not name.changing:
            name.changing = True
            try:
                await change(name)
            finally:
                name.changing = False
        await (self._leave(name) if 0.1 < dice < 0.15 else self._ask(name))

    async def _ask(self, name: Name) -> None:
        which = self._rng.randrange(len(self._prompts))
        ask = Ask(set(name.now), name.gone)
        name.asks.add(ask)
        answer = await name.client.post(
            "/v1/completions", json=self._body(name, which, self._tokens)
        )
        name.asks.discard(ask)
        if answer.status_code != 200:
            self.refused += 1
            told = answer.status_code == 404 or any(text in answer.text for text in _DELETED)
            if not (ask.may_fail and told):
                self.wrong.append(f"{name.name}: {answer.status_code} {answer.text}")
            return
        expected = {self._contents[content].answers[which] for content in ask.allowed}
        text = answer.json()["choices"][0]["text"]
        if None in expected:
            self.unclear += 1
        elif text not in expected:
            self.wrong.append(f"{name.name}, prompt {which}: {text!r} is none of {expected}")
        else:
            self.checked += 1

    async def _leave(self, name: Name) -> None:
        """Ask for a long answer, and go away after its beginning."""
        body = self._body(name, self._rng.randrange(len(self._prompts)), _LONG_ANSWER)
        async with name.client.stream(
            "POST", "/v1/completions", json={**body, "stream": True}
        ) as answer:
            async for _ in answer.aiter_lines():
                break
        self.aborted += 1

    async def _promote(self, name: Name) -> None:
        version = self._rng.choice([n for n in name.versions if n != name.prod])
        name.may_become(name.versions[version])
        answer = await name.client.put(
            f"/api/v1/adapters/{name.name}/aliases/prod", json={"version": version}
        )
        assert answer.is_success, answer.text
        name.prod = version
        name.now = {name.versions[version]}
        self.promoted += 1

    async def _replace(self, name: Name) -> None:
        """Delete an adapter; another one takes its name."""
        name.may_vanish()
        answer = await name.client.delete(f"/api/v1/adapters/{name.name}")
        assert answer.is_success, answer.text
        name.now = set()
        answer = await name.client.post("/v1/completions", json=self._body(name, 0, 1))
        if answer.status_code != 404:
            self.wrong.append(f"{name.name} was deleted: {answer.status_code} {answer.text}")
        self._spare += name.versions.values()
        content = self._spare.pop(0)
        name.may_become(content)
        await push(name, self._contents[content].files)
        name.versions, name.prod = {1: content}, 1
        name.gone = False
        self.replaced += 1

    def _body(self, name: Name, which: int, tokens: int) -> dict[str, object]:
        return {
            "model": name.name,
            "prompt": list(self._prompts[which]),
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
        }


async def push(name: Name, files: Mapping[str, bytes], **fields: str) -> None:
    """Push a new version."""
    answer = await name.client.post(
        "/api/v1/adapters",
        data={"name": name.name, **fields},
        files={
            "config": ("adapter_config.json", files["config"]),
            "weights": ("adapter_model.safetensors", files["weights"]),
        },
    )
    assert answer.status_code == 201, answer.text

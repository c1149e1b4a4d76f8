"""Owns what runs while processes are killed: streams whose tokens are counted as they arrive, and a publisher who
pushes versions and promotes them. Both only note what happened to them."""

import asyncio
import contextlib
import hashlib
import json
import random
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import httpx

# Most answers end by themselves between two kills; some never do.
_SHORT, _LONG = (3, 80), 3000
_PAUSE_SECONDS = 0.05

# "done": to its end; "error": with an error frame; "broken": the connection broke; "refused": never began.
End = Literal["done", "error", "broken", "refused"]


@dataclass(slots=True)
class Received:
    """One stream as its client saw it; `answer_id` is empty if nothing of it came."""

    answer_id: str = ""
    tokens: int = 0
    max_tokens: int = 0
    end: End = "refused"
    error: str = ""


class Streams:
    """Sends streamed completions from several clients at once until told to stop."""

    def __init__(self, url: str, key: str, models: Sequence[str], seed: int) -> None:
        self.received: list[Received] = []
        self.stopping = False
        self._url = url
        self._key = key
        self._models = models
        self._rng = random.Random(seed)
        # No authorities: to read them for each client would take most of the load's time.
        self._trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def run(self, clients: int) -> None:
        """Returns when all clients have read their last answer."""
        await asyncio.gather(*(self._client() for _ in range(clients)))

    async def _client(self) -> None:
        while not self.stopping:
            received = Received(max_tokens=self._length())
            self.received.append(received)
            # A connection for each, so that requests spread over workers and none meets one that is dead.
            async with httpx.AsyncClient(
                timeout=120, trust_env=False, verify=self._trusted
            ) as client:
                try:
                    await self._read(client, received)
                except httpx.TransportError as error:
                    received.end, received.error = "broken", repr(error)
            if received.end != "done":
                await asyncio.sleep(_PAUSE_SECONDS)

    def _length(self) -> int:
        return _LONG if self._rng.random() < 0.1 else self._rng.randint(*_SHORT)

    async def _read(self, client: httpx.AsyncClient, received: Received) -> None:
        body = {
            "model": self._rng.choice(self._models),
            "prompt": [self._rng.randrange(3, 250) for _ in range(self._rng.randint(1, 40))],
            "max_tokens": received.max_tokens,
            "ignore_eos": True,
            "stream": True,
            "logprobs": 0,  # so that every token can be seen
        }
        headers = {"authorization": f"Bearer {self._key}", "connection": "close"}
        url = f"{self._url}/v1/completions"
        async with client.stream("POST", url, json=body, headers=headers) as answer:
            if answer.status_code != 200:
                received.error = (await answer.aread()).decode()
                return
            received.end = "broken"  # unless it says more
            # Not httpx's lines: they also end where a text has one of Unicode's other separators.
            rest = b""
            async for part in answer.aiter_bytes():
                # A line that ends in its middle is what a killed worker had got out of it: it was not handed over.
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    if line == b"data: [DONE]":
                        received.end = "done"
                    elif line.startswith(b"data: "):
                        self._take(json.loads(line[6:]), received)
                if self.stopping and received.max_tokens == _LONG:
                    return  # leaves

    def _take(self, frame: dict[str, object], received: Received) -> None:
        if "error" in frame:
            received.end, received.error = "error", json.dumps(frame["error"])
            return
        received.answer_id = str(frame["id"])
        choices = frame["choices"]
        assert isinstance(choices, list)
        for choice in choices:
            if choice["logprobs"] is not None:
                received.tokens += len(choice["logprobs"]["tokens"])


class Publisher:
    """Pushes new versions of one adapter and promotes them, one after the other.

    Attributes:
        sent: hashes of the weights that were sent, whatever came of it. pushed: those of versions that were answered
            with 201, by their number.
        may_be_prod: versions that `prod` may name: the last one answered, and those since that nobody answered.
        wrong: answers that should not have come.
    """

    name = "published"

    def __init__(
        self, url: str, key: str, content: Callable[[int], Mapping[str, bytes]], first: int = 0
    ) -> None:
        """`content` makes the files of a new version, from `first` on."""
        self.sent: set[str] = set()
        self.pushed: dict[int, str] = {}
        self.may_be_prod: set[int] = set()
        self.wrong: list[str] = []
        self.stopping = False
        self.url = url
        self._key = key
        self._content = content
        self._next = first
        self._trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # as above

    async def run(self) -> None:
        """Until told to stop."""
        headers = {"authorization": f"Bearer {self._key}", "connection": "close"}
        self.stopping = False
        while not self.stopping:
            async with httpx.AsyncClient(
                base_url=self.url,
                headers=headers,
                timeout=120,
                trust_env=False,
                verify=self._trusted,
            ) as client:
                with contextlib.suppress(httpx.TransportError):
                    await self._publish(client)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _publish(self, client: httpx.AsyncClient) -> None:
        content = self._content(self._next)
        self._next += 1
        files = {
            "config": ("adapter_config.json", content["config"]),
            "weights": ("adapter_model.safetensors", content["weights"]),
        }
        digest = hashlib.sha256(content["weights"]).hexdigest()
        self.sent.add(digest)
        answer = await client.post("/api/v1/adapters", data={"name": self.name}, files=files)
        if answer.status_code != 201:
            self._check(answer)
            return
        version = int(answer.json()["version"])
        self.pushed[version] = digest
        self.may_be_prod.add(version)
        answer = await client.put(
            f"/api/v1/adapters/{self.name}/aliases/prod", json={"version": version}
        )
        if answer.is_success:
            self.may_be_prod = {version}
        else:
            self._check(answer)

    def _check(self, answer: httpx.Response) -> None:
        # A database that is away, an end that has begun.
        if answer.status_code != 503:
            self.wrong.append(f"{answer.status_code} {answer.text}")

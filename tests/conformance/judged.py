"""Owns what is said of one field of OpenAI's API, and how a running service is asked for it."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx

Json = Any  # what a test looks into


class Status(StrEnum):
    """What becomes of a field."""

    SUPPORTED = "supported"
    PARTLY = "partly"  # some values are refused, by name
    REFUSED = "refused"
    IGNORED = "ignored"


class Ask:
    """One route of a running service, and a body that it answers."""

    def __init__(self, http: httpx.Client, path: str, minimal: Mapping[str, Json]) -> None:
        self.http = http
        self._path = path
        self._minimal = minimal

    def raw(self, **fields: Json) -> httpx.Response:
        """The answer to the minimal body with other fields; one that is `...` is left out."""
        body = {k: v for k, v in {**self._minimal, **fields}.items() if v is not ...}
        return self.http.post(self._path, json=body)

    def __call__(self, **fields: Json) -> Json:
        """The body of a good answer."""
        answer = self.raw(**fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def chunks(self, **fields: Json) -> list[Json]:
        """The chunks of a good stream."""
        answer = self.raw(stream=True, **fields)
        assert answer.status_code == 200, answer.text
        *frames, last = [f for f in answer.text.split("\n\n") if f.startswith("data: ")]
        assert last == "data: [DONE]"
        return [json.loads(frame.removeprefix("data: ")) for frame in frames]

    def refusal(self, **fields: Json) -> Json:
        """The error of a request that is answered with 400."""
        answer = self.raw(**fields)
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a request.

    Attributes:
        name: its path, with `[]` behind lists.
        note: what the document says of it.
        effect: asks with it, and asserts what it does.
        refused: further fields of bodies that are answered with 400.
        param: what such an answer names, if not `name`.
        shown_by: the test that shows it, if it takes more than one service with one model.
    """

    name: str
    status: Status
    note: str = ""
    effect: Callable[[Ask], None] | None = None
    refused: tuple[Mapping[str, Json], ...] = ()
    param: str | None = None
    shown_by: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """What is said of one route.

    Attributes:
        minimal: a body that is answered.
        request: every field of the request that OpenAI documents.
        response: every field of the answer that OpenAI documents, and whether it is ever sent.
        answers: gives answers that hold all of those between them.
    """

    name: str
    path: str
    minimal: Mapping[str, Json]
    request: tuple[Field, ...]
    response: Mapping[str, bool] = field(default_factory=dict)
    answers: Callable[[Ask], list[Json]] = lambda ask: [ask()]


def paths(body: Json, prefix: str = "") -> Iterator[str]:
    """Every path in a body, with `[]` behind lists."""
    if isinstance(body, dict):
        for name, value in body.items():
            yield prefix + name
            yield from paths(value, f"{prefix}{name}.")
    elif isinstance(body, list):
        for value in body:
            yield from paths(value, prefix.removesuffix(".") + "[].")


def same(**fields: Json) -> Callable[[Ask], None]:
    """The effect of having none."""

    def effect(ask: Ask) -> None:
        assert ask(**fields)["choices"] == ask()["choices"]

    return effect

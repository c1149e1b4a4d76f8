"""Owns what is said of the fields of one route, and how a running service is asked for it."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import httpx

from conformance.spec import Kind

Json = Any  # what a test looks into


class Status(StrEnum):
    """What becomes of a field."""

    SUPPORTED = "supported"
    PARTLY = "partly"  # some values are refused, by name
    REFUSED = "refused"
    IGNORED = "ignored"


class Ask:
    """One route of a running service, and a request that it answers.

    Args:
        minimal: fields of that request.
        form: how they are sent: in a JSON body, as parts of a form, or in the URL.
    """

    def __init__(
        self,
        http: httpx.Client,
        path: str,
        minimal: Mapping[str, Json],
        form: Literal["json", "parts", "query"] = "json",
    ) -> None:
        self.http = http
        self.path = path
        self._minimal = minimal
        self._form = form

    def raw(self, **fields: Json) -> httpx.Response:
        """The answer to the minimal request with other fields; one that is `...` is left out."""
        given = {k: v for k, v in {**self._minimal, **fields}.items() if v is not ...}
        if self._form == "query":
            return self.http.get(self.path, params=given)
        if self._form == "json":
            return self.http.post(self.path, json=given)
        parts: dict[str, Json] = {}
        for name, value in given.items():
            if isinstance(value, dict):
                parts |= {f"{name}[{inner}]": (None, str(part)) for inner, part in value.items()}
            else:
                parts[name] = value if isinstance(value, tuple) else (None, value)
        # A form without a part is none.
        return self.http.post(self.path, files=parts)

    def __call__(self, **fields: Json) -> Json:
        """The body of a good answer."""
        answer = self.raw(**fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def at(self, path: str) -> "Ask":
        """Another route, which is asked with the same fields."""
        return Ask(self.http, path, self._minimal, self._form)

    def chunks(self, **fields: Json) -> list[Json]:
        """The chunks of a good stream of completions or chat."""
        answer = self.raw(stream=True, **fields)
        assert answer.status_code == 200, answer.text
        *frames, last = [f for f in answer.text.split("\n\n") if f.startswith("data: ")]
        assert last == "data: [DONE]"
        return [json.loads(frame.removeprefix("data: ")) for frame in frames]

    def events(self, **fields: Json) -> list[Json]:
        """The events of a good stream of responses or messages, each under the name that its data repeat."""
        answer = self.raw(stream=True, **fields)
        assert answer.status_code == 200, answer.text
        frames = re.findall(r"event: (.+)\ndata: (.+)\n\n", answer.text)
        events = [json.loads(data) for _, data in frames]
        assert [event["type"] for event in events] == [name for name, _ in frames]
        return events


class Refusal(NamedTuple):
    """A request that is answered with an error.

    Attributes:
        fields: beside those of the minimal request.
        code: of the error.
        at: what the error names; empty if that is the field's name.
        status: of the answer.
    """

    fields: Mapping[str, Json]
    code: str
    at: str = ""
    status: int = 400


def no(code: str, /, at: Json = "", **fields: Json) -> Refusal:
    """The refusal of a request with these fields."""
    return Refusal(fields, code, at)


Effect = Callable[[Ask], None]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a request.

    Attributes:
        name: its path, see `spec`. What is below that of a field which is refused or ignored is so too.
        note: what the document says of it.
        effect: asks with it, and asserts what it does.
        refused: requests with it that are answered with errors.
        shown_by: the test that shows it, if it takes more than this service.
        inside: the route under which the fields below it are told.
    """

    name: str
    status: Status
    note: str = ""
    effect: Effect | None = None
    refused: tuple[Refusal, ...] = ()
    shown_by: str = ""
    inside: str = ""

    @property
    def closed(self) -> bool:
        """Whether nothing is said of what is below it."""
        return bool(self.inside) or self.status in (Status.REFUSED, Status.IGNORED)


@dataclass(frozen=True, slots=True)
class Reply:
    """One kind of answer of a route.

    Attributes:
        name: empty for the only one.
        kind: the client's type.
        answers: asks for answers that have all `sent` between them, and asserts what is in them.
        sent: paths of fields that are seen with a value.
        null: those that are always there, and null.
        never: those that are left out, with what is below them.
        inside: those that are sent, and the route under which what is below them is told.
        elsewhere: those that take more than this service, and the tests that show them.
        extras: this server's own.
    """

    name: str
    kind: Kind
    answers: Callable[[Ask], list[Json]]
    sent: tuple[str, ...]
    null: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    inside: Mapping[str, str] | None = None
    elsewhere: Mapping[str, str] | None = None
    extras: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """What is said of one route.

    Attributes:
        title: how the document calls it.
        route: its method and path.
        kind: the client's type of requests; None if there is nothing to send.
        ask: makes an `Ask` of a tenant's client.
        strict: what nobody documents is refused.
    """

    title: str
    route: str
    kind: Kind
    ask: Callable[[httpx.Client], Ask]
    fields: tuple[Field, ...] = ()
    replies: tuple[Reply, ...] = ()
    strict: bool = True


def at(
    path: str, minimal: Mapping[str, Json], form: Literal["json", "parts", "query"] = "json"
) -> Callable[[httpx.Client], Ask]:
    """A route that is always there."""
    return lambda http: Ask(http, path, minimal, form)


def plain(name: str) -> str:
    """A path without the kinds in it, as errors write it."""
    return re.sub(r"\([\w.]+\)", "", name).replace("[]", "[0]")


def same(**fields: Json) -> Effect:
    """The effect of having none."""

    def effect(ask: Ask) -> None:
        assert ask(**fields)["choices"] == ask()["choices"]

    return effect


def supported(
    name: str, effect: Effect | None = None, *refused: Refusal, note: str = "", by: str = ""
) -> Field:
    """A field that does what OpenAI says."""
    return Field(name, Status.SUPPORTED, note, effect, refused, by)


def partly(name: str, note: str, effect: Effect | None, *refused: Refusal) -> Field:
    """A field of which some values are refused."""
    return Field(name, Status.PARTLY, note, effect, refused)


def refused(name: str, *refusals: Refusal, note: str = "", effect: Effect | None = None) -> Field:
    """A field whose values are refused, but for those that ask for nothing."""
    return Field(name, Status.REFUSED, note, effect, refusals)


def ignored(name: str, note: str, effect: Effect, *refusals: Refusal) -> Field:
    """A field without effect."""
    return Field(name, Status.IGNORED, note, effect, refusals)


SPLIT = "tuned@both"  # an alias that stands for two versions of an adapter


def keeps_version(field: str, **brief: Json) -> Effect:
    """The effect of a field that says who asks: the same version of an alias that is split."""

    def effect(ask: Ask) -> None:
        def version(asker: str) -> str:
            answer = ask.raw(model=SPLIT, **{field: asker}, **brief)
            assert answer.status_code == 200, answer.text
            return str(answer.headers["x-loraplex-version"])

        # Of so many askers not all get the same one, but once in a billion times.
        askers: dict[str, str] = {}
        for number in range(32):
            asker = f"asker {number}"
            askers.setdefault(version(asker), asker)
            if len(askers) == 2:
                break
        assert set(askers) == {"tuned@1", "tuned@2"}
        for told, asker in askers.items():
            assert [version(asker) for _ in range(3)] == [told] * 3

    return effect

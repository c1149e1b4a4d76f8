"""Owns what an API that is not OpenAI's chat, but runs as one, says of itself: how its answers are named, counted and
written down."""

from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, TypeVar

from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.engines.generation import Generation
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.answer import Heading
from loraplex.platform.inference.chat_events import PlainReader, Readers

W = TypeVar("W")


class Opening(NamedTuple):
    """What is known of an answer before it begins.

    Attributes:
        subject: the adapter or base model that answers.
        readers: makes what tells the parts of one choice apart.
    """

    heading: Heading
    subject: str
    tokenizer: Tokenizer
    params: SamplingParams
    readers: Readers = PlainReader


class Dialect(NamedTuple, Generic[W]):
    """One way to put a chat.

    Attributes:
        endpoint: what the ledger calls it.
        prefix: of its answers' ids.
        write: makes what writes an answer down.
    """

    endpoint: str
    prefix: str
    write: Callable[[Opening], W]


class Spoken(NamedTuple, Generic[W]):
    """An answer that runs, and what writes it down."""

    generation: Generation
    writer: W


def renamed(error: BadRequestError, names: Mapping[str, str]) -> BadRequestError:
    """The error as whoever sent the request reads it: `names` are paths of the chat's fields and what they are called
    there, the longer ones first where one begins another."""
    param = error.param or ""
    for name, own in names.items():
        if param == name or param.startswith((f"{name}.", f"{name}[")):
            # Messages are numbered differently there.
            mine = own if name == "messages" else own + param[len(name) :]
            message = error.message.replace(param, mine)
            return BadRequestError(message, code=error.code, param=mine)
    return error


def refused(param: str, message: str) -> BadRequestError:
    """An error about a documented field or value that is not served."""
    return BadRequestError(message, param=param, code="unsupported_value")

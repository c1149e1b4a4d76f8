"""Owns answering requests of the Messages API as chats."""

from collections.abc import AsyncIterator, Sequence

import msgspec

from loraplex.platform.auth.principal import Principal
from loraplex.platform.engines.generation import Generation
from loraplex.platform.engines.messages import Delta
from loraplex.platform.error_responses import anthropic_body
from loraplex.platform.errors import BadRequestError, PlatformError
from loraplex.platform.event_stream import PING_SECONDS, named_frame
from loraplex.platform.inference.costs import Costs
from loraplex.platform.inference.dialects import Dialect, Opening
from loraplex.platform.inference.service import InferenceService
from loraplex.platform.messages.bodies import Ping
from loraplex.platform.messages.chat import chat_of, of_messages
from loraplex.platform.messages.checks import check_messages, check_prompt
from loraplex.platform.messages.schemas import CountRequest, MessagesRequest
from loraplex.platform.messages.writer import MessageWriter, frame


class MessageDelivery:
    """One message on its way to its client.

    Args:
        request_id: what errors in mid-stream repeat.
    """

    def __init__(self, generation: Generation, writer: MessageWriter, request_id: str) -> None:
        self.generation = generation
        self._writer = writer
        self._request_id = request_id

    async def frames(self) -> AsyncIterator[bytes]:
        """Typed events. An error ends them with its body instead."""
        try:
            while not self.generation.finished:
                for _, delta in await self.generation.next(PING_SECONDS):
                    self._writer.see(delta)
                yield self._writer.take() or frame(Ping())
            await self.generation.conclude()
            yield self._writer.closing()
        except PlatformError as error:
            body = msgspec.json.encode(anthropic_body(error, self._request_id))
            yield named_frame("error", body)

    async def whole(self, deltas: Sequence[Delta]) -> bytes:
        """The message as one object."""
        (delta,) = deltas
        self._writer.see(delta)
        return msgspec.json.encode(self._writer.answer)


class Messages:
    """Makes messages."""

    def __init__(self, inference: InferenceService) -> None:
        self._inference = inference

    async def create(
        self, principal: Principal, request: MessagesRequest, costs: Costs, request_id: str
    ) -> MessageDelivery:
        """Start the answer.

        Raises:
            PlatformError: it cannot be served; nothing runs then.
        """
        check_messages(request)
        stops = request.stop_sequences or ()

        def write(opening: Opening) -> MessageWriter:
            return MessageWriter(
                opening.heading,
                opening.readers(),
                opening.tokenizer,
                stops,
                streams=bool(request.stream),
            )

        chat, dialect = chat_of(request), Dialect("messages", "msg_", write)
        try:
            spoken = await self._inference.speak(principal, chat, costs, dialect)
        except BadRequestError as error:
            raise of_messages(error) from None
        return MessageDelivery(*spoken, request_id)

    async def count(self, principal: Principal, request: CountRequest, costs: Costs) -> int:
        """How many tokens the prompt of a request has.

        Raises:
            PlatformError: it could not be served.
        """
        check_prompt(request)
        chat = chat_of(request)
        try:
            return await self._inference.count(principal, chat, costs)
        except BadRequestError as error:
            raise of_messages(error) from None

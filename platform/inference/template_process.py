"""Owns rendering the chat templates of tenants: in a process with bounded memory and time, because a template is a
program, and Jinja's sandbox bounds neither."""

import asyncio
import json
import resource
import time
from collections import OrderedDict
from collections.abc import Mapping

from loraplex.engine.line_process import LineProcess, answer_orders
from loraplex.platform.inference.chat_template import ChatTemplate, Json, TemplateError

# Processor time of one rendering, so that a busy machine bans nobody; ordinary templates take microseconds.
CPU_SECONDS = 1.0
# The last resort, in real time.
PATIENCE_SECONDS = 30.0
MEMORY_BYTES = 512 * 1024 * 1024
CACHED_TEMPLATES = 256
MAX_TEXT_CHARACTERS = 8 * 1024 * 1024
# A template that went over its limits is refused at once for this long, so that it cannot hold up the others again.
BAN_SECONDS = 60.0

_TOO_MUCH = "The chat template takes too much time or memory; simplify it."


class TemplateProcess(LineProcess):
    """A renderer; coroutines use it by turns."""

    def __init__(self) -> None:
        super().__init__(__name__, PATIENCE_SECONDS)
        self._lock = asyncio.Lock()
        self._banned: dict[str, float] = {}  # template → when it may try again

    async def render(self, source: str, variables: Json) -> str:
        """The prompt text; see `ChatTemplate.render`.

        Raises:
            TemplateError: the template is broken, refuses the messages, or takes too long or too much memory.
        """
        now = time.monotonic()
        self._banned = {banned: until for banned, until in self._banned.items() if until > now}
        if source in self._banned:
            raise TemplateError(_TOO_MUCH)
        order = {"source": source, "variables": variables, "cpu_seconds": CPU_SECONDS}
        try:
            line = json.dumps(order).encode() + b"\n"
        except RecursionError:
            raise TemplateError("The messages are nested too deeply.") from None
        # Shielded: an exchange that was begun is ended, or the next one would read its answer.
        answer = await asyncio.shield(asyncio.ensure_future(self._take_turn(line)))
        if answer is None:
            self._banned[source] = now + BAN_SECONDS
            raise TemplateError(_TOO_MUCH)
        result: dict[str, str] = json.loads(answer)
        if "error" in result:
            raise TemplateError(result["error"])
        return result["text"]

    async def _take_turn(self, line: bytes) -> bytes | None:
        # One thread at most waits for the process; other uses of the thread pool go on.
        async with self._lock:
            return await asyncio.to_thread(self._exchange, line)


def main() -> None:
    """Answer render orders until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    templates: OrderedDict[str, ChatTemplate] = OrderedDict()
    answer_orders(lambda order: _answer(order, templates))


def _answer(
    order: Mapping[str, object], templates: "OrderedDict[str, ChatTemplate]"
) -> dict[str, str]:
    source, variables = order["source"], order["variables"]
    assert isinstance(source, str)
    assert isinstance(variables, dict)
    try:
        if source not in templates:
            templates[source] = ChatTemplate(source)
            while len(templates) > CACHED_TEMPLATES:
                templates.popitem(last=False)
        templates.move_to_end(source)
        text = templates[source].render(variables)
    except TemplateError as error:
        return {"error": str(error)[:1000]}
    if len(text) > MAX_TEXT_CHARACTERS:
        return {"error": "The chat template made a text that is too long."}
    return {"text": text}


if __name__ == "__main__":
    main()

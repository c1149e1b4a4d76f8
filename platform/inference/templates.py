"""Owns where a chat template is rendered: the operator's in this process, those of tenants in one made for that. And
what templates show of how models write."""

from loraplex.platform.inference.chat_template import ChatTemplate, Json
from loraplex.platform.inference.reasoning import Marks, reasoning_marks
from loraplex.platform.inference.template_process import TemplateProcess
from loraplex.platform.inference.tool_parsers.choose import tool_format
from loraplex.platform.inference.tool_parsers.port import ToolFormat
from loraplex.platform.settings import ReasoningParser, ToolParser


class Templates:
    """One per app: base models' templates are compiled once, and one process renders for all tenants."""

    def __init__(
        self,
        tool_parser: ToolParser = "auto",
        reasoning_parser: ReasoningParser = "auto",
    ) -> None:
        self._tool_parser: ToolParser = tool_parser
        self._reasoning_parser: ReasoningParser = reasoning_parser
        self._compiled: dict[str, ChatTemplate] = {}  # two for each base model at most
        self._process = TemplateProcess()

    def render_base(self, source: str, variables: Json) -> str:
        """Raises TemplateError when the template refuses the messages."""
        template = self._compiled.get(source)
        if template is None:
            template = self._compiled[source] = ChatTemplate(source)
        return template.render(variables)

    async def render_adapter(self, source: str, variables: Json) -> str:
        """Raises TemplateError when the template refuses the messages or goes over its limits."""
        return await self._process.render(source, variables)

    def tool_format(self, source: str) -> ToolFormat | None:
        """How models with this template write calls, as far as is known."""
        return tool_format(self._tool_parser, source)

    def reasoning_marks(self, source: str) -> Marks | None:
        """What models with this template put around their thoughts; None if they have none."""
        return reasoning_marks(self._reasoning_parser, source)

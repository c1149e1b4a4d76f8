"""Owns where a chat template is rendered: the operator's in this process, those of tenants in one made for that."""

from loraplex.platform.inference.chat_template import ChatTemplate, Json
from loraplex.platform.inference.template_process import TemplateProcess


class Templates:
    """One per app: base models' templates are compiled once, and one process renders for all tenants."""

    def __init__(self) -> None:
        self._compiled: dict[str, ChatTemplate] = {}  # as many as there are base models
        self._process = TemplateProcess()

    def render_base(self, source: str, messages: list[Json], bos_token: str, eos_token: str) -> str:
        """Raises TemplateError when the template refuses the messages."""
        template = self._compiled.get(source)
        if template is None:
            template = self._compiled[source] = ChatTemplate(source)
        return template.render(messages, bos_token=bos_token, eos_token=eos_token)

    async def render_adapter(
        self, source: str, messages: list[Json], bos_token: str, eos_token: str
    ) -> str:
        """Raises TemplateError when the template refuses the messages or goes over its limits."""
        return await self._process.render(source, messages, bos_token, eos_token)

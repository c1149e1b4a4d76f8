"""Owns which way of writing calls a model has: it shows in its chat template."""

from loraplex.platform.inference.tool_parsers.hermes import OPEN, Hermes
from loraplex.platform.inference.tool_parsers.llama3 import MARK as PYTHON_TAG
from loraplex.platform.inference.tool_parsers.llama3 import Llama3
from loraplex.platform.inference.tool_parsers.mistral import MARK as TOOL_CALLS
from loraplex.platform.inference.tool_parsers.mistral import Mistral
from loraplex.platform.inference.tool_parsers.port import ToolFormat
from loraplex.platform.settings import ToolParser

_FORMATS: dict[str, ToolFormat] = {"hermes": Hermes(), "llama3": Llama3(), "mistral": Mistral()}
# What a template says to a model, or shows it of its own calls.
_SIGNS = (
    ("mistral", TOOL_CALLS),
    ("hermes", OPEN),
    ("llama3", PYTHON_TAG),
    ("llama3", "<|start_header_id|>"),
)


def tool_format(name: ToolParser, template: str) -> ToolFormat | None:
    """The way called `name`; with `auto` the one that the template shows. None if there is none."""
    if name == "auto":
        return next((_FORMATS[own] for own, sign in _SIGNS if sign in template), None)
    return _FORMATS.get(name)

"""Owns what a chat becomes for its model: the text of the prompt, how the answer is read, and which language it has."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.chat_messages import call_ids, final_text, template_messages
from loraplex.platform.inference.chat_reader import Reading
from loraplex.platform.inference.chat_structure import chat_structure
from loraplex.platform.inference.chat_template import Json, TemplateError
from loraplex.platform.inference.chat_tools import Tools, read_tools
from loraplex.platform.inference.chat_variables import effort, extras, uses
from loraplex.platform.inference.reasoning import Marks, Stage, stage_behind
from loraplex.platform.inference.schemas import ChatRequest
from loraplex.platform.inference.templates import Templates
from loraplex.platform.inference.tool_parsers.port import ToolFormat


class Speaker(NamedTuple):
    """Who answers a chat. `own_template` is the adapter's, if it has one."""

    tokenizer: Tokenizer
    own_template: str | None


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A chat as its model gets it."""

    text: str
    reading: Reading
    tools: Tools
    tokenizer: Tokenizer

    def params(self, params: SamplingParams) -> SamplingParams:
        """With the language of the output, and the marks that it is read by."""
        reading = self.reading
        structure = chat_structure(params.structure, self.tools, reading, self.tokenizer)
        shown = [*(reading.tools.marks if reading.tools is not None else ())]
        shown += reading.marks or ()
        ids = [self.tokenizer.special_id(text) for text in shown]
        visible = tuple(token for token in ids if token is not None)
        if structure is params.structure and not visible:
            return params
        return replace(params, structure=structure, visible_token_ids=visible)


async def chat_prompt(templates: Templates, speaker: Speaker, request: ChatRequest) -> ChatPrompt:
    """The prompt of a chat, in the adapter's own template or the base model's.

    Raises:
        BadRequestError: there is no template, it refuses the messages, or it lacks what the request needs.
    """
    tools, tokenizer = read_tools(request), speaker.tokenizer
    base = tokenizer.chat_template
    if tools.functions and tokenizer.tool_template is not None:
        base = tokenizer.tool_template
    source = speaker.own_template or base
    if source is None:
        raise BadRequestError(
            f"{request.model!r} has no chat template; upload the adapter with one, or use /v1/completions.",
            param="model",
            code="chat_template_missing",
        )
    # An adapter's template may be silent about what the base model was trained to write.
    known = source if base is None or source is base else f"{source}\n{base}"
    form, marks = templates.tool_format(known), templates.reasoning_marks(known)
    if tools.functions:
        _check_tools(tools, source, form)
    variables = _variables(request, tools, source, marks)
    messages = template_messages(request.messages)
    variables["messages"] = messages if form is None else call_ids(messages, form)
    variables |= {"bos_token": tokenizer.bos_token or "", "eos_token": tokenizer.eos_token or ""}
    text = await _render(templates, source, variables, own=source is speaker.own_template)
    if request.continue_final_message:
        text = final_text(text, request.messages[-1])
    reading = Reading(marks, Stage.SAYING if marks is None else stage_behind(text, marks))
    if tools.functions:
        names = frozenset(each.name for each in tools.functions)
        opening = _opening(tools, form, reading, tokenizer)
        text += opening
        reading = replace(reading, tools=form, names=names, single=tools.single, opening=opening)
    return ChatPrompt(text, reading, tools, tokenizer)


async def _render(templates: Templates, source: str, variables: Json, *, own: bool) -> str:
    try:
        if own:
            return await templates.render_adapter(source, variables)
        return templates.render_base(source, variables)
    except TemplateError as error:
        raise BadRequestError(str(error), param="messages", code="chat_template_error") from None


def _variables(request: ChatRequest, tools: Tools, source: str, marks: Marks | None) -> Json:
    variables = extras(request, source)
    variables |= effort(request.reasoning_effort, source, marks)
    variables["add_generation_prompt"] = (
        not request.continue_final_message
        if request.add_generation_prompt is None
        else request.add_generation_prompt
    )
    variables["tools"] = list(tools.shown) or None
    variables["documents"] = request.documents or None
    return variables


def _opening(tools: Tools, form: ToolFormat | None, reading: Reading, tokenizer: Tokenizer) -> str:
    """The special token that begins a call which must be made: grammars cannot have the model write it."""
    if tools.choice != "required" or form is None or reading.stage is not Stage.SAYING:
        return ""
    return form.opening if tokenizer.special_id(form.opening) is not None else ""


def _check_tools(tools: Tools, source: str, form: ToolFormat | None) -> None:
    field = tools.field
    if not uses(source, "tools"):
        raise BadRequestError(
            f"{field}: this model's chat template has no place for functions; leave {field} out.",
            param=field,
            code="unsupported_value",
        )
    if form is None:
        raise BadRequestError(
            f"{field}: it is not known how this model writes calls; leave {field} out.",
            param=field,
            code="unsupported_value",
        )

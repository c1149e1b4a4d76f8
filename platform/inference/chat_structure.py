"""Owns the language of a chat's output: what the answer must look like, calls that must be made or must fit their
schemas, and thoughts in front of both."""

import json
from collections.abc import Sequence

from loraplex.engine.structure import Structure, StructureError
from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.chat_reader import Reading
from loraplex.platform.inference.chat_tools import Tools
from loraplex.platform.inference.reasoning import Marks, Stage
from loraplex.platform.inference.structured_outputs import check_briefly
from loraplex.platform.inference.tool_parsers.grammars import any_of, const, in_order
from loraplex.platform.inference.tool_parsers.port import Function, Json, ToolFormat

_ANY_OBJECT: Json = {"type": "object"}


def chat_structure(
    answer: Structure | None, tools: Tools, reading: Reading, tokenizer: Tokenizer
) -> Structure | None:
    """The language of the whole output; None if it may be anything. `answer` is that of what is said.

    Raises:
        BadRequestError: this model's special tokens cannot be part of it, or a function's schema cannot be enforced.
    """
    form = reading.tools
    if form is None:
        said = None if answer is None else _format(answer)
    else:
        said = _with_calls(answer, tools, form, reading, tokenizer)
    if said is None:
        return None
    if reading.marks is not None and reading.stage is not Stage.SAYING:
        said = _thought_first(said, reading.marks, reading.stage, tokenizer)
    elif form is None:
        return answer
    return Structure("structural_tag", json.dumps({"type": "structural_tag", "format": said}))


def _with_calls(
    answer: Structure | None,
    tools: Tools,
    form: ToolFormat,
    reading: Reading,
    tokenizer: Tokenizer,
) -> Json | None:
    newer = form.newer_mark is not None and tokenizer.special_id(form.newer_mark) is not None
    _check_schemas(tools)
    if tools.choice == "required":
        calls = form.forced(tools.functions, newer=newer, single=tools.single)
        return calls if reading.opening else _opened(calls, form)
    if answer is None and not tools.strict:
        return None
    if tokenizer.special_id(form.opening) is not None:
        raise _refused(answer is None, tools.field)
    if answer is not None:
        calls = form.forced(_loose(tools), newer=newer, single=tools.single)
        return any_of([_format(answer), _opened(calls, form)])
    return form.strict(_loose(tools), single=tools.single)


def _check_schemas(tools: Tools) -> None:
    """Here, as far as this is quick: an engine could not say where in the request a schema is that it refuses."""
    for function, place in zip(tools.functions, tools.places, strict=True):
        if tools.choice != "required" and function.name not in tools.strict:
            continue
        try:
            check_briefly(Structure("json_schema", json.dumps(function.parameters)))
        except StructureError as error:
            raise BadRequestError(f"{place}: {error}", param=place, code="invalid_value") from None


def _opened(calls: Json, form: ToolFormat) -> Json:
    return in_order(const(form.opening), calls) if form.opening else calls


def _refused(strict: bool, field: str) -> BadRequestError:
    param = field if strict else "response_format"
    what = "strict functions" if strict else "response_format beside functions"
    return BadRequestError(
        f"{param}: this model takes {what} only if tool_choice is 'none', 'required' or a function.",
        param=param,
        code="unsupported_value",
    )


def _loose(tools: Tools) -> Sequence[Function]:
    """Only strict functions keep their schemas."""
    return [
        each if each.name in tools.strict else each._replace(parameters=_ANY_OBJECT)
        for each in tools.functions
    ]


def _format(structure: Structure) -> Json:
    """A structure as a format of structural tags."""
    source = structure.source
    match structure.kind:
        case "json_object":
            return {"type": "json_schema", "json_schema": _ANY_OBJECT}
        case "json_schema":
            return {"type": "json_schema", "json_schema": json.loads(source)}
        case "regex":
            return {"type": "regex", "pattern": source}
        case "grammar":
            return {"type": "grammar", "grammar": source}
        case "choice":
            return any_of(const(choice) for choice in json.loads(source))
        case "structural_tag":
            inner: Json = json.loads(source)["format"]
            return inner


def _thought_first(said: Json, marks: Marks, stage: Stage, tokenizer: Tokenizer) -> Json:
    if tokenizer.special_id(marks.end) is not None:
        # No grammar can let special tokens through, so there are no thoughts; those begun are cut short.
        return said
    thoughts: Json = {"type": "any_text", "excludes": [marks.end]}
    gap: Json = {"type": "optional", "content": const("\n\n")}
    ended = in_order(thoughts, const(marks.end), gap, said)
    if stage is Stage.THINKING:
        return ended
    return any_of([in_order(const(marks.begin), ended), said])

"""Owns the fields that ask for output of a given form: `response_format` and the extra `structured_outputs`."""

import json

import msgspec

from loraplex.engine.structure import Kind, Structure, StructureError
from loraplex.engine.structured.sources import check_structure
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.schemas import (
    NULL,
    ChatRequest,
    ResponseFormat,
    SamplingFields,
    StructuredOutputs,
)

# Characters of a structure that is looked at here: a schema of 2 KB can take 50 ms, in which this worker answers
# nobody. Whatever is longer the engine refuses, beside its steps.
CHECKED_AT_ONCE = 2 << 10


def structure_of(request: SamplingFields) -> Structure | None:
    """What the output of a request must be; None if it may be anything.

    Raises:
        BadRequestError: naming the field; what a grammar library alone can judge is not looked at.
    """
    extra = None if request.structured_outputs is None else _extra(request.structured_outputs)
    if not isinstance(request, ChatRequest) or request.response_format is None:
        return extra
    structure = _response_format(request.response_format)
    if structure is not None and extra is not None:
        raise _invalid(
            "structured_outputs",
            "structured_outputs cannot be used with response_format; send one of them.",
        )
    return structure or extra


def _response_format(wanted: ResponseFormat) -> Structure | None:
    given = wanted.json_schema
    if given is not None and wanted.type != "json_schema":
        raise _invalid(
            "response_format.json_schema",
            "response_format.json_schema needs response_format.type to be 'json_schema'.",
        )
    if wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return Structure("json_object")
    if wanted.type != "json_schema":
        raise BadRequestError(
            f"response_format.type {wanted.type[:40]!r} is not supported; send 'text', 'json_object' or 'json_schema'.",
            param="response_format.type",
            code="unsupported_value",
        )
    if given is None:
        raise _missing("response_format.json_schema")
    if given.schema == NULL:
        raise _missing("response_format.json_schema.schema")
    return _checked("json_schema", given.schema, "response_format.json_schema.schema")


def _extra(wanted: StructuredOutputs) -> Structure:
    given: dict[Kind, msgspec.Raw | str] = {}
    if wanted.json != NULL:
        given["json_schema"] = wanted.json
    if wanted.json_object:
        given["json_object"] = ""
    if wanted.regex is not None:
        given["regex"] = wanted.regex
    if wanted.choice is not None:
        given["choice"] = json.dumps(wanted.choice)
    if wanted.grammar is not None:
        given["grammar"] = wanted.grammar
    if len(given) != 1:
        raise _invalid(
            "structured_outputs",
            "structured_outputs takes exactly one of json, json_object, regex, choice and grammar.",
        )
    ((kind, source),) = given.items()
    name = "json" if kind == "json_schema" else kind
    return _checked(kind, source, f"structured_outputs.{name}")


def _checked(kind: Kind, source: msgspec.Raw | str, param: str) -> Structure:
    try:
        text = source if isinstance(source, str) else bytes(source).decode()
        if kind == "json_schema" and text.startswith('"'):
            text = str(json.loads(text))  # a schema within a text
        structure = Structure(kind, text)
        check_briefly(structure)
    except StructureError as error:
        raise _invalid(param, f"{param}: {error}") from None
    except ValueError:  # bytes that are no text
        raise _invalid(param, f"{param}: this value cannot be read.") from None
    return structure


def check_briefly(structure: Structure) -> None:
    """Raises StructureError for what can be told without holding up the other requests of this worker."""
    if len(structure.source) <= CHECKED_AT_ONCE:
        check_structure(structure)


def _missing(param: str) -> BadRequestError:
    return BadRequestError(f"{param} is missing.", param=param, code="missing_required_parameter")


def _invalid(param: str, message: str) -> BadRequestError:
    return BadRequestError(message, param=param, code="invalid_value")

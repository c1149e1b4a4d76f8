"""Owns which keywords of JSON Schema are read, which say nothing about values, and that all others are refused."""

from loraplex.engine.structure import StructureError

# What `json.loads` gives.
Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
Schema = dict[str, Json]

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
# What each type of value is held to. "number" stands for whole numbers too.
KEYWORDS_OF: dict[str, frozenset[str]] = {
    "number": frozenset(
        {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    ),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "object": frozenset(
        {"properties", "required", "additionalProperties", "minProperties", "maxProperties"}
    ),
}
_GENERAL = frozenset({"type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf"})
# They describe a value, or where schemas are kept, and allow and forbid nothing.
ANNOTATIONS = frozenset(
    {
        "title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly",
        "$schema", "$id", "$comment", "$defs", "definitions", "discriminator", "contentMediaType", "contentEncoding",
    }
)  # fmt: skip
KNOWN = _GENERAL | ANNOTATIONS | frozenset().union(*KEYWORDS_OF.values())


def check_keywords(schema: Schema, path: str) -> None:
    """Raises StructureError naming a keyword that is not read; those that begin with `x-` are notes."""
    for keyword, value in schema.items():
        if keyword in KNOWN or keyword.startswith("x-"):
            continue
        if keyword == "uniqueItems" and value is False:
            continue
        where = f"{path}.{keyword[:80]}".removeprefix(".")
        raise StructureError(f"{where}: this keyword is not supported; leave it out.")

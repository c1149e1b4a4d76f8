"""Which texts a schema allows, and which schemas are refused, by keyword and place."""

import json
from collections.abc import Mapping

import pytest

from loraplex.engine.structure import Structure, StructureError
from loraplex.engine.structured.disjoint import are_disjoint
from loraplex.engine.structured.json_schema import schema_grammar
from loraplex.engine.structured.keywords import Json
from loraplex.engine.structured.sources import check_structure
from loraplex.engine.structured.xgrammar_library import XGrammarLibrary
from support.schemas import Schema


@pytest.fixture(scope="module")
def library() -> XGrammarLibrary:
    return XGrammarLibrary([bytes([byte]) for byte in range(256)] + [b""], (256,))


TAGGED: Schema = {
    "oneOf": [
        {"type": "object", "properties": {"k": {"const": "a"}}, "required": ["k"]},
        {"$ref": "#/$defs/b"},
    ],
    "$defs": {"b": {"type": "object", "properties": {"k": {"const": "b"}}, "required": ["k"]}},
}
TREE: Schema = {
    "type": "object",
    "properties": {"n": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["n"],
}

# The schema, texts it allows, and texts it does not.
CASES: list[tuple[Json, list[str], list[str]]] = [
    (
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "string", "maxLength": 3}},
            "required": ["b"],
        },
        [
            '{"a": 1, "b": "x"}',
            '{"b":"abc"}',
            '{"b":"\\n\\u00e9é"}',
            '{"b":"\\ud83d\\ude00😀a"}',
            '{\n  "b":"x"\n}',
        ],
        ['{"a":1}', '{"b":"abcd"}', '{"b":"x","c":1}', '{"b":"\t"}', '{"b":"\\ud83d"}', "{,}"],
    ),
    (
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "q": False},
            "additionalProperties": {"type": "boolean"},
        },
        ["{}", '{"a":1}', '{"x":true}', '{"a":1,"ab":true,"b":false,"":true}'],
        ['{"a":true}', '{"x":true,"a":1}', '{"x":1}', '{"q":true}', '{"\\u0061":true}'],
    ),
    ({"type": "object", "maxProperties": 1}, ["{}", '{"x":[1]}'], ['{"x":1,"y":2}']),
    ({"type": "object", "minProperties": 1}, ['{"x":[1]}'], ["{}"]),
    (
        {"type": "integer", "minimum": -13, "maximum": 120},
        [str(number) for number in range(-13, 121)],
        ["-14", "-99", "121", "130", "1000", "-0", "01", "1.0", ""],
    ),
    (
        {"type": "integer", "exclusiveMinimum": 98.5, "exclusiveMaximum": 1002},
        ["99", "100", "1001"],
        ["98", "1002", "9", "-99"],
    ),
    ({"type": "integer", "minimum": 7}, ["7", "10", "999999999999"], ["6", "-7", "0"]),
    ({"type": "integer", "multipleOf": 1}, ["0", "-5"], ["1.5"]),
    (
        {"type": "number", "minimum": 0, "exclusiveMaximum": 2},
        ["0", "1", "1.5", "0.01"],
        ["2", "2.1", "-0.5", "1."],
    ),
    (
        {"type": "number", "exclusiveMinimum": -1, "maximum": 0},
        ["0", "-0.5"],
        ["-1", "-1.5", "0.5", "-1.0"],
    ),
    ({"type": "number"}, ["-1.5e-3", "0", "10"], ["01", ".5", "1e", "+1"]),
    (
        {"type": "string", "pattern": '^a"b.$'},
        ['"a\\"bx"', '"a\\"b\\""'],
        ['"a"bx"', '"a\\"b\\n"'],
    ),
    ({"type": "string", "pattern": "b+"}, ['"xbby"', '"b"'], ['"xx"']),
    ({"type": "string", "format": "date"}, ['"2024-02-28"'], ['"2024-02-30"', '"2024-13-01"']),
    (
        {"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 3},
        ["[null]", "[null, null,null]"],
        ["[]", "[null,null,null,null]", "[null,]"],
    ),
    (
        {
            "type": "array",
            "prefixItems": [{"type": "null"}, {"type": "boolean"}],
            "minItems": 1,
            "items": {"const": 1},
        },
        ["[null]", "[null,true]", "[null,true,1,1]"],
        ["[]", "[true]", "[null,1]"],
    ),
    (
        {"prefixItems": [{"type": "null"}, {"type": "boolean"}], "items": False, "minItems": 2},
        ["[null,true]"],
        ["[null]", "[null,true,1]"],
    ),
    (
        {"enum": ['a"b', 1, None, {"x": [1, 2]}, {}, []]},
        ['"a\\"b"', "1", "null", '{"x": [1,2]}', "{}", "[]"],
        ["2", '{"x":[1]}'],
    ),
    ({"enum": [1, "a", 2.5, True], "type": "integer"}, ["1"], ['"a"', "2.5", "true"]),
    (TREE, ['{"n":null}', '{"n":{"n":null}}'], ['{"n":{}}', "null"]),
    (TAGGED, ['{"k":"a"}', '{"k":"b"}'], ['{"k":"c"}']),
    ({"type": ["string", "null"], "maxLength": 1}, ["null", '"a"'], ['"aa"', "1"]),
    ({"allOf": [{"type": "null"}], "title": "x"}, ["null"], ["1"]),
    ({"properties": {"a": {}}}, ['{"a":[1,{"b":null}]}'], ["[]", "1"]),
    ({}, ["[1]", '"x"', "-1.5e3", '{"a":[{}]}'], ["x", "[1"]),
    (True, ["{}"], ["}"]),
]


@pytest.mark.parametrize(("schema", "allowed", "forbidden"), CASES)
def test_texts(
    library: XGrammarLibrary, schema: Json, allowed: list[str], forbidden: list[str]
) -> None:
    grammar = library.compile(Structure("json_schema", json.dumps(schema)))

    def allows(text: str) -> bool:
        matcher = grammar.matcher().inner
        return matcher.accept_string(text) and matcher.is_completed()

    assert [text for text in allowed if not allows(text)] == []
    assert [text for text in forbidden if allows(text)] == []


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"not": {}}, "not: this keyword"),
        ({"if": {}}, "if: this keyword"),
        ({"type": "object", "patternProperties": {}}, "patternProperties: this"),
        ({"items": {"uniqueItems": True}}, "items.uniqueItems: this"),
        ({"properties": {"a": {"anyOf": [{}, {"contains": {}}]}}}, r"properties.a.anyOf\[1\].cont"),
        ({"$defs": {"x": {"minContains": 1}}, "$ref": "#/$defs/x"}, r"\$defs/x.minContains: this"),
        ({"type": "foo"}, "type: give one or several"),
        ({"type": []}, "type: give one or several"),
        ({"type": "string", "pattern": "(?=a)"}, "pattern: the pattern's '='"),
        ({"type": "string", "pattern": "a", "maxLength": 2}, "pattern: not supported together"),
        ({"type": "string", "format": "foo"}, "format: 'foo' is not supported; these are: date"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "minLength: it is larger"),
        ({"minLength": -1}, "minLength: give a whole number"),
        ({"type": "string", "maxLength": 101}, "maxLength: strings of bounded length"),
        ({"type": "string", "minLength": 101}, "minLength: strings of bounded length"),
        ({"items": {"pattern": "^.{0,101}$"}}, "items.pattern: counted characters come to more"),
        ({"properties": {f"p{i}": {} for i in range(257)}}, "256 properties in a row"),
        ({"$ref": "#/x"}, "'#/x' leads nowhere"),
        ({"$ref": "https://example.org/x"}, "refer to a place within"),
        ({"$ref": "#"}, "it leads nowhere"),
        ({"$ref": "#/$defs/a", "maximum": 3, "$defs": {"a": {}}}, r"maximum: not supported beside"),
        ({"allOf": [{}, {}]}, "allOf: more than one"),
        ({"oneOf": [{"const": 1}, {"type": "integer"}]}, "oneOf: its schemas may hold"),
        ({"oneOf": [{"const": 1}, {"const": 1.0}]}, "oneOf: its schemas may hold"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf: its schemas may hold"),
        ({"anyOf": [{}], "minLength": 1}, "minLength: not supported beside anyOf"),
        ({"enum": []}, "enum: give a list"),
        ({"const": 1, "type": "string"}, "no value of enum or const"),
        ({"type": "integer", "multipleOf": 3}, "multipleOf: not supported"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "no number lies within"),
        ({"type": "number", "exclusiveMinimum": 1, "maximum": 1}, "no number lies within"),
        ({"type": "number", "minimum": 0.5}, "bounds of a number"),
        ({"type": "object", "required": ["x"]}, "required: 'x' is not among"),
        ({"properties": {"a": {}}, "maxProperties": 1}, "minProperties and maxProperties"),
        ({"properties": {"a": False}, "required": ["a"]}, "properties.a: false allows"),
        (False, "the schema: false"),
        ([], "a schema is an object"),
    ],
)
def test_refusals(schema: Json, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        schema_grammar(json.dumps(schema))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('{"const": 1e999}', "not readable"),
        ('{"enum": [-1e999], "type": "integer"}', "not readable"),
        ('{"const": "\\ud800"}', "half a character"),
        ('{"properties": {"\\udfff": {}}}', "half a character"),
        ('{"pattern": "\\ud800"}', "half a character"),
        ('{"const": ' + "[" * 900 + "]" * 900 + "}", "128 brackets"),
        (
            json.dumps({"properties": {"a" * 3_000: {}}, "additionalProperties": True}),
            "at most 256 characters",
        ),
    ],
)
def test_what_breaks_readers_is_refused_in_a_sentence(source: str, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        schema_grammar(source)


def required(properties: Mapping[str, object]) -> str:
    return json.dumps({"properties": properties, "required": list(properties)})


def test_what_a_schema_repeats_is_written_once() -> None:
    """A property of 40 bytes can stand for 10 KB of grammar, which took a server's thread half a minute."""
    for value in ({"format": "date-time"}, {"type": "integer", "minimum": -(10**17) - 7}):
        grammar = schema_grammar(required({f"p{i}": value for i in range(3_000)}))
        assert len(grammar) < 1_000_000
    different = {f"p{i}": {"type": "integer", "minimum": -(10**17) - i} for i in range(3_000)}
    with pytest.raises(StructureError, match="too large a grammar"):
        schema_grammar(required(different))
    part = {"type": "json_schema", "json_schema": {"format": "date-time"}}
    with pytest.raises(StructureError, match="too large a grammar"):
        check_structure(Structure("structural_tag", json.dumps({"parts": [part] * 3_000})))


def test_alternatives_are_told_apart_without_looking_at_each_pair_anew() -> None:
    looked_up: list[str] = []

    def look_up(ref: str) -> Json:
        looked_up.append(ref)
        return {"const": ref}

    def part(ref: str) -> Json:
        return {"type": "object", "properties": {"a": {"$ref": ref}}, "required": ["a"]}

    assert are_disjoint([part(f"#/{i}") for i in range(50)], look_up)
    assert len(looked_up) == 50
    assert not are_disjoint([part("#/x"), part("#/x")], look_up)


def test_a_schema_of_the_largest_size_is_turned_into_a_grammar() -> None:
    wide = {f"property {i}": {"type": "string", "pattern": "a{100}"} for i in range(3_000)}
    assert len(schema_grammar(required(wide))) > 100_000
    bushy: Json = True
    for _ in range(13):
        bushy = {"anyOf": [bushy, bushy]}
    with pytest.raises(StructureError, match="more than 10000 schemas"):
        schema_grammar(json.dumps(bushy, separators=(",", ":")))


def test_bounded_strings_share_what_is_left_of_them() -> None:
    """Each number of characters that may still follow costs a pass over the vocabulary: 60 ms with 128k tokens."""
    properties: dict[str, Json] = {
        f"p{i}": {"type": "string", "minLength": i % 3, "maxLength": 30 + i % 3} for i in range(900)
    }
    assert schema_grammar(required(properties)).count("rest_") > 900
    properties |= {
        f"q{i}": {"type": "string", "minLength": 30 - i, "maxLength": 40} for i in range(3)
    }
    with pytest.raises(StructureError, match="counted characters come to more than 100 in all"):
        schema_grammar(required(properties))
    one: Json = {"type": "json_schema", "json_schema": {"type": "string", "maxLength": 60}}
    other: Json = {"type": "regex", "pattern": ".{50}"}
    check_structure(Structure("structural_tag", json.dumps({"parts": [one, one]})))
    with pytest.raises(StructureError, match="counted characters"):
        check_structure(Structure("structural_tag", json.dumps({"parts": [one, other]})))


def test_strings_do_not_cost_more_the_longer_they_are() -> None:
    """A choice repeated by `*` has the library look at every token again in every step: 0.3 s for 128k tokens."""
    for schema in ({"type": "string"}, {"type": "string", "maxLength": 20}, {"pattern": "ab"}):
        grammar = schema_grammar(json.dumps(schema | {"type": "string"}))
        assert "character*" not in grammar
        assert "character{" not in grammar

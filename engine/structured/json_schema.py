"""Owns JSON Schema as a grammar. What a grammar cannot say is refused by its keyword and place, never left out; where a
schema leaves a choice, the narrower is taken, so that every output is valid for the schema."""

import json
import math
from collections.abc import Callable, Hashable

from loraplex.engine.structure import StructureError
from loraplex.engine.structured import json_text
from loraplex.engine.structured.disjoint import are_disjoint
from loraplex.engine.structured.ebnf import Range, Rules, choice, repeat
from loraplex.engine.structured.formats import FORMATS
from loraplex.engine.structured.keywords import (
    ANNOTATIONS,
    KEYWORDS_OF,
    TYPES,
    Json,
    Schema,
    check_keywords,
)
from loraplex.engine.structured.number_ranges import Bounds, numbers, whole, whole_numbers
from loraplex.engine.structured.objects import Entries, entries
from loraplex.engine.structured.patterns import within_text

MAX_BYTES = 256 << 10
MAX_DEPTH = 32
# Of objects and arrays in the text: schemas within schemas take two each, and constants may be as deep again.
MAX_NESTING = 128
# Schemas within the schema; OpenAI's own limit is 5,000 properties.
MAX_SCHEMAS = 10_000
MAX_VALUES = 10_000  # of enumerations, in all
MAX_COUNT = 100_000  # of maxItems and its like
# Of minLength and maxLength. Each length is a state of its own, for which the library looks at the whole vocabulary:
# 128k tokens take 0.05 to 0.2 s, while the request waits. Told as a repetition, it did so in every step.
MAX_LENGTH = 100


def schema_grammar(source: str) -> str:
    """The grammar of a schema given as JSON text.

    Raises:
        StructureError: the schema is malformed, too large, or beyond what is supported; the message names the place.
    """
    schema = read_json(source)
    rules = Rules()
    converter = _Converter(schema, rules)
    rules.set(rules.shared("root", ""), converter.expression(schema, "", 0))
    return rules.text()


def read_json(source: str) -> Json:
    """A JSON text from a stranger.

    Raises:
        StructureError: it is too large, nested too deeply, or no JSON.
    """
    if len(source.encode()) > MAX_BYTES:
        raise StructureError(f"the schema has more than {MAX_BYTES >> 10} KiB.")
    try:
        value: Json = json.loads(source, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise StructureError("the schema is not readable as JSON.") from None
    if _is_deeper(value, MAX_NESTING):
        raise StructureError(f"the schema has more than {MAX_NESTING} brackets within brackets.")
    return value


class _Converter:
    """Turns schemas into expressions; messages begin with the place in the schema."""

    def __init__(self, root: Json, rules: Rules) -> None:
        self._root = root
        self._rules = rules
        self._refs: dict[str, str] = {}
        self._shapes: dict[
            Hashable, str
        ] = {}  # rules of patterns and bounds, which schemas tend to repeat
        self._spelled: dict[tuple[Range, ...], str] = {}
        self._schemas = 0
        self._values = 0
        self._types: dict[str, Callable[[Schema, str, int], str]] = {
            "null": lambda *_: '"null"',
            "boolean": lambda *_: json_text.boolean(rules),
            "integer": self._integer,
            "number": self._number,
            "string": self._string,
            "array": self._array,
            "object": self._object,
        }

    def expression(self, schema: Json, path: str, depth: int) -> str:
        """An expression for the values of a schema."""
        self._schemas += 1
        if self._schemas > MAX_SCHEMAS:
            raise StructureError(f"the schema has more than {MAX_SCHEMAS} schemas within it.")
        if depth > MAX_DEPTH:
            raise StructureError(f"{path}: more than {MAX_DEPTH} schemas within schemas.")
        if schema is True:
            return json_text.value(self._rules)
        if schema is False:
            raise _error(path, "false allows no value.")
        if not isinstance(schema, dict):
            raise _error(path, "a schema is an object or a boolean.")
        check_keywords(schema, path)
        for keyword, convert in (
            ("$ref", self._ref),
            ("anyOf", self._any_of),
            ("oneOf", self._one_of),
            ("allOf", self._all_of),
        ):
            if keyword in schema:
                _alone(schema, keyword, path)
                return convert(schema, path, depth)
        if "const" in schema or "enum" in schema:
            return self._constants(schema, path)
        types = _types(schema, path)
        if types is None:
            return json_text.value(self._rules)
        return choice(self._types[each](schema, path, depth) for each in types)

    def _ref(self, schema: Schema, path: str, depth: int) -> str:
        del depth
        ref = schema["$ref"]
        seen: set[str] = set()
        while True:
            if not isinstance(ref, str) or ref in seen:
                raise _error(f"{path}.$ref", "it leads nowhere.")
            seen.add(ref)
            target = resolve(self._root, ref, f"{path}.$ref")
            if not (isinstance(target, dict) and "$ref" in target):
                break
            check_keywords(target, path)
            _alone(target, "$ref", path)
            ref = target["$ref"]
        if ref not in self._refs:
            name = self._refs[ref] = self._rules.name("ref")
            # Its own place counts, not the way here: else what refers to itself would have no depth.
            self._rules.set(name, self.expression(target, ref.removeprefix("#"), 1))
        return self._refs[ref]

    def _any_of(self, schema: Schema, path: str, depth: int) -> str:
        return choice(self._branches(schema, "anyOf", path, depth))

    def _one_of(self, schema: Schema, path: str, depth: int) -> str:
        branches = self._branches(schema, "oneOf", path, depth)
        options = _schemas(schema["oneOf"], f"{path}.oneOf")
        look_up = lambda ref: resolve(self._root, ref, f"{path}.oneOf")  # noqa: E731 - one expression
        if len(options) > 100 or not are_disjoint(options, look_up):
            raise _error(
                f"{path}.oneOf",
                "its schemas may hold for one value together; use anyOf, or a required property with a const in each.",
            )
        return choice(branches)

    def _all_of(self, schema: Schema, path: str, depth: int) -> str:
        branches = self._branches(schema, "allOf", path, depth)
        if len(branches) > 1:
            raise _error(f"{path}.allOf", "more than one schema is not supported; merge them.")
        return branches[0]

    def _branches(self, schema: Schema, keyword: str, path: str, depth: int) -> list[str]:
        where = f"{path}.{keyword}"
        options = _schemas(schema[keyword], where)
        return [self.expression(each, f"{where}[{i}]", depth + 1) for i, each in enumerate(options)]

    def _constants(self, schema: Schema, path: str) -> str:
        _alone(schema, "const" if "const" in schema else "enum", path, "type", "enum", "const")
        values = schema.get("enum", [schema.get("const")])
        if not isinstance(values, list) or not values:
            raise _error(f"{path}.enum", "give a list of values.")
        if "const" in schema:
            values = [each for each in values if _same(each, schema["const"])]
        if (
            types := _types({"type": schema["type"]} if "type" in schema else {}, path)
        ) is not None:
            values = [each for each in values if any(_is(each, name) for name in types)]
        if not values:
            raise _error(path, "no value of enum or const has the type.")
        self._values += len(values)
        if self._values > MAX_VALUES:
            raise StructureError(f"the schema lists more than {MAX_VALUES} values.")
        unique = {json.dumps(each, sort_keys=True): each for each in values}
        return choice(json_text.constant(self._rules, each) for each in unique.values())

    def _integer(self, schema: Schema, path: str, depth: int) -> str:
        del depth
        if schema.get("multipleOf") == 1:
            schema = {key: each for key, each in schema.items() if key != "multipleOf"}
        low, high, open_low, open_high = self._bounds(schema, path)
        if low is None and high is None:
            return json_text.integer(self._rules)
        first = None if low is None else whole(low, up=True)
        last = None if high is None else whole(high, up=False)
        first = None if first is None else first + (open_low and first == low)
        last = None if last is None else last - (open_high and last == high)
        return self._shape(("whole", first, last), path, lambda: whole_numbers(first, last))

    def _number(self, schema: Schema, path: str, depth: int) -> str:
        del depth
        low, high, open_low, open_high = self._bounds(schema, path)
        if low is None and high is None:
            return json_text.number(self._rules)
        for bound in (low, high):
            if bound is not None and bound != int(bound):
                raise _error(path, "bounds of a number must be whole numbers.")
        bounds = Bounds(
            None if low is None else int(low),
            None if high is None else int(high),
            open_low,
            open_high,
        )
        return self._shape(("number", bounds), path, lambda: numbers(bounds))

    def _bounds(self, schema: Schema, path: str) -> tuple[float | None, float | None, bool, bool]:
        if "multipleOf" in schema:
            raise _error(f"{path}.multipleOf", "not supported; list the values in enum.")
        low, high = _number_at(schema, "minimum", path), _number_at(schema, "maximum", path)
        above = _number_at(schema, "exclusiveMinimum", path)
        below = _number_at(schema, "exclusiveMaximum", path)
        open_low = above is not None and (low is None or above >= low)
        open_high = below is not None and (high is None or below <= high)
        return above if open_low else low, below if open_high else high, open_low, open_high

    def _string(self, schema: Schema, path: str, depth: int) -> str:
        del depth
        low, high = _count(schema, "minLength", path), _count(schema, "maxLength", path)
        shapes = [each for each in ("pattern", "format") if each in schema]
        if len(shapes) > 1 or (shapes and (low or high is not None)):
            raise _error(
                f"{path}.{shapes[0]}",
                "not supported together with minLength, maxLength, pattern or format; say it all in one pattern.",
            )
        if not shapes and not low and high is None:
            return json_text.text_of(self._rules)
        if not shapes:
            _check_range(low, high, path, "Length")
            if max(low or 0, high or 0) > MAX_LENGTH:
                which = "maxLength" if high is not None else "minLength"
                raise _error(
                    f"{path}.{which}",
                    f"strings of bounded length have at most {MAX_LENGTH} characters; leave it out.",
                )
            return f'("\\"" {json_text.bounded_text(self._rules, low or 0, high)} "\\"")'
        pattern = schema[shapes[0]]
        if not isinstance(pattern, str):
            raise _error(f"{path}.{shapes[0]}", "give a string.")
        if shapes[0] == "format":
            if pattern not in FORMATS:
                known = ", ".join(FORMATS)
                raise _error(
                    f"{path}.format", f"{pattern[:40]!r} is not supported; these are: {known}."
                )
            pattern = FORMATS[pattern]
        anything = json_text.text(self._rules)
        return self._shape(
            ("string", pattern),
            f"{path}.{shapes[0]}",
            lambda: f'("\\"" {within_text(pattern, self._spell, anything)} "\\"")',
        )

    def _shape(self, key: Hashable, path: str, convert: Callable[[], str]) -> str:
        """The rule of what is converted once, wherever it stands."""
        if key not in self._shapes:
            self._shapes[key] = self._rules.add("shape", _placed(path, convert))
        return self._shapes[key]

    def _spell(self, ranges: list[Range]) -> str:
        key = tuple(ranges)
        if key not in self._spelled:
            self._spelled[key] = json_text.characters(ranges)
        return self._spelled[key]

    def _array(self, schema: Schema, path: str, depth: int) -> str:
        first: list[Json] = []
        if "prefixItems" in schema:
            first = _schemas(schema["prefixItems"], f"{path}.prefixItems")
        low = _count(schema, "minItems", path) or 0
        high = _count(schema, "maxItems", path)
        items = schema.get("items", True)
        if items is False:
            high = len(first) if high is None else min(high, len(first))
        _check_range(low, high, path, "Items")
        parts = [
            self.expression(each, f"{path}.prefixItems[{i}]", depth + 1)
            for i, each in enumerate(first[:high])
        ]
        gap = json_text.space(self._rules)
        body = ""
        left = None if high is None else high - len(parts)
        if left is None or left > 0:
            item = self._rules.add("item", self.expression(items, f"{path}.items", depth + 1))
            least = max(0, low - len(parts))
            # The first element of all has no comma in front of it.
            if parts:
                body = repeat(f'({gap} "," {gap} {item})', least, left)
            else:
                rest = repeat(
                    f'({gap} "," {gap} {item})',
                    max(0, least - 1),
                    None if left is None else left - 1,
                )
                body = f"({item} {rest})" + ("" if least else "?")
        for i in range(len(parts) - 1, -1, -1):
            comma = f'{gap} "," {gap} ' if i else ""
            body = f"({comma}{parts[i]} {body})" + ("" if i < low else "?")
        return f'("[" {gap} {body} {gap} "]")'

    def _object(self, schema: Schema, path: str, depth: int) -> str:
        properties = schema.get("properties", {})
        if not isinstance(properties, dict):
            raise _error(f"{path}.properties", "give an object of schemas.")
        required = _names(schema.get("required", []))
        if required is None:
            raise _error(f"{path}.required", "give a list of names.")
        for name in required:
            if name not in properties:
                raise _error(f"{path}.required", f"{name[:80]!r} is not among the properties.")
        # Without a word on others only the named ones are written.
        more = schema.get("additionalProperties", not properties)
        low = _count(schema, "minProperties", path) or 0
        high = _count(schema, "maxProperties", path)
        if (high is not None and properties) or low > max(len(required), not properties):
            raise _error(
                path,
                "minProperties and maxProperties are supported only without properties, minProperties up to 1.",
            )
        _check_range(low, high, path, "Properties")
        values = {
            name: self._rules.add(
                "value", self.expression(each, f"{path}.properties.{name}", depth + 1)
            )
            for name, each in properties.items()
            if each is not False or name in required
        }
        others = None
        if more is not False:
            where = f"{path}.additionalProperties"
            others = self._rules.add("value", self.expression(more, where, depth + 1))
        wanted = Entries(values, frozenset(required), frozenset(properties), others, low, high)
        return entries(self._rules, wanted)


def resolve(root: Json, ref: str, path: str) -> Json:
    """What a reference within the schema stands for.

    Raises:
        StructureError: it leads nowhere, or out of the schema.
    """
    if ref == "#":
        return root
    if not ref.startswith("#/"):
        raise _error(path, f"{ref[:80]!r} is not supported; refer to a place within the schema.")
    found = root
    for step in ref[2:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or key not in found:
            raise _error(path, f"{ref[:80]!r} leads nowhere.")
        found = found[key]
    return found


def _alone(schema: Schema, keyword: str, path: str, *allowed: str) -> None:
    for other in schema:
        if other not in ANNOTATIONS and other != keyword and other not in allowed:
            raise _error(f"{path}.{other}", f"not supported beside {keyword}.")


def _types(schema: Schema, path: str) -> list[str] | None:
    """Those a value may have; if the schema names none, those that its keywords are about; None is any."""
    wanted = schema.get("type")
    if wanted is None:
        found = [each for each, keywords in KEYWORDS_OF.items() if keywords & schema.keys()]
        return found or None
    names = _names(wanted if isinstance(wanted, list) else [wanted])
    if not names or not set(names) <= set(TYPES):
        raise _error(f"{path}.type", f"give one or several of {', '.join(TYPES)}.")
    return list(dict.fromkeys(names))


def _names(value: Json) -> list[str] | None:
    """A list of texts; None if it is something else."""
    if not isinstance(value, list):
        return None
    names = [each for each in value if isinstance(each, str)]
    return names if len(names) == len(value) else None


def _schemas(value: Json, path: str) -> list[Json]:
    if not isinstance(value, list) or not value:
        raise _error(path, "give a list of schemas.")
    return value


def _is(value: Json, name: str) -> bool:
    if name in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return name == "number" or value == int(value)
    kinds = {"null": type(None), "boolean": bool, "string": str, "array": list, "object": dict}
    return isinstance(value, kinds[name])


def _same(first: Json, second: Json) -> bool:
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def _number_at(schema: Schema, keyword: str, path: str) -> float | None:
    value = schema.get(keyword)
    if value is None and keyword not in schema:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e18:
        raise _error(f"{path}.{keyword}", "give a number between -1e18 and 1e18.")
    return value


def _count(schema: Schema, keyword: str, path: str) -> int | None:
    value = schema.get(keyword)
    if keyword not in schema:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise _error(f"{path}.{keyword}", f"give a whole number from 0 to {MAX_COUNT}.")
    return value


def _check_range(low: int | None, high: int | None, path: str, what: str) -> None:
    if high is not None and (low or 0) > high:
        raise _error(f"{path}.min{what}", f"it is larger than max{what}, or than what is allowed.")


def _placed(path: str, convert: Callable[[], str]) -> str:
    try:
        return convert()
    except StructureError as error:
        raise _error(path, str(error)) from None


def _error(path: str, message: str) -> StructureError:
    return StructureError(f"{path.removeprefix('.') or 'the schema'}: {message}")


def _no_constant(name: str) -> Json:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(text)
    return value


def _is_deeper(value: Json, most: int) -> bool:
    """Whether objects and arrays lie within each other more than `most` times."""
    layer = [value]
    for _ in range(most + 1):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(layer)

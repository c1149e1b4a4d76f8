"""Owns random JSON Schemas for tests, of every kind that is served, with strings and lists short enough that a model of
random weights comes to their end."""

import random
from typing import Any

Schema = dict[str, Any]

_NAMES = ("a", "ab", "name", "x y", 'q"t', "größe", "back\\slash", "a_b", "id", "kind")
_PATTERNS = (
    "^[a-z]{2,5}$",
    "^\\d{3}-\\d{2}$",
    "^(?:yes|no|[^a-f\\s]{1,3})$",
    '^"quoted" \\\\ [\\n\\t]?$',
    "^\\w+?@[A-Z]{1,2}\\.x$",
    "^.{0,4}$",
)
_FORMATS = ("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_VALUES: tuple[Any, ...] = (
    "",
    "x",
    'say "hi"',
    "line\nend",
    "é",
    0,
    -7,
    3.5,
    True,
    False,
    None,
    [],
    [1, "a"],
    {"k": {}},
)


def random_schema(seed: int) -> Schema:
    """The schema of a seed."""
    return _Maker(random.Random(seed)).root()


class _Maker:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._definitions: list[str] = []

    def root(self) -> Schema:
        definitions = {}
        for name in ("first", "second")[: self._rng.randrange(3)]:
            definitions[name] = self.schema(2)
            self._definitions.append(name)  # a later one may refer to an earlier one
        schema = self.schema(0)
        if self._rng.random() < 0.1:
            # It refers to itself, and ends.
            definitions["list"] = {
                "type": "object",
                "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/list"}]}},
                "required": ["next"],
                "additionalProperties": False,
            }
            schema = {"anyOf": [schema, {"$ref": "#/$defs/list"}]}
        return {**schema, "$defs": definitions, "title": "Made by chance"}

    def schema(self, depth: int) -> Schema:
        kinds = [self._string, self._integer, self._number, self._constants, self._simple]
        if depth < 3:
            kinds += [self._object, self._object, self._array, self._any_of, self._one_of]
        if self._definitions:
            kinds.append(self._ref)
        return self._rng.choice(kinds)(depth)

    def _simple(self, depth: int) -> Schema:
        del depth
        return {"type": self._rng.choice(["null", "boolean", ["boolean", "null"]])}

    def _ref(self, depth: int) -> Schema:
        del depth
        return {
            "$ref": f"#/$defs/{self._rng.choice(self._definitions)}",
            "description": "Elsewhere.",
        }

    def _string(self, depth: int) -> Schema:
        del depth
        shape = self._rng.randrange(3)
        if shape == 0:
            return {"type": "string", "pattern": self._rng.choice(_PATTERNS)}
        if shape == 1:
            return {"type": "string", "format": self._rng.choice(_FORMATS)}
        low = self._rng.randrange(4)
        return {"type": "string", "minLength": low, "maxLength": low + self._rng.randrange(5)}

    def _integer(self, depth: int) -> Schema:
        del depth
        low = self._rng.randrange(-2000, 2000)
        schema: Schema = {"type": self._rng.choice(["integer", ["null", "integer"]])}
        if self._rng.random() < 0.8:
            schema[self._rng.choice(["minimum", "exclusiveMinimum"])] = low
        if self._rng.random() < 0.8:
            schema[self._rng.choice(["maximum", "exclusiveMaximum"])] = (
                low + 2 + self._rng.randrange(3000)
            )
        return schema

    def _number(self, depth: int) -> Schema:
        del depth
        low = self._rng.randrange(-30, 30)
        bounds: Schema = {}
        if self._rng.random() < 0.7:
            bounds[self._rng.choice(["minimum", "exclusiveMinimum"])] = low
        if self._rng.random() < 0.7:
            bounds[self._rng.choice(["maximum", "exclusiveMaximum"])] = (
                low + 1 + self._rng.randrange(50)
            )
        return {"type": "number", **bounds}

    def _constants(self, depth: int) -> Schema:
        del depth
        values = self._rng.sample(_VALUES, self._rng.randrange(1, 4))
        return {"const": values[0]} if self._rng.random() < 0.3 else {"enum": values}

    def _object(self, depth: int) -> Schema:
        names = self._rng.sample(_NAMES, self._rng.randrange(5))
        schema: Schema = {
            "type": "object",
            "properties": {name: self.schema(depth + 1) for name in names},
            "required": [name for name in names if self._rng.random() < 0.6],
        }
        others = self._rng.randrange(3)
        if others == 1:
            schema["additionalProperties"] = False
        elif others == 2:
            schema["additionalProperties"] = self.schema(3)
        if not names:
            schema |= {"maxProperties": 3, "additionalProperties": self.schema(3)}
        return schema

    def _array(self, depth: int) -> Schema:
        low = self._rng.randrange(3)
        schema: Schema = {"type": "array", "items": self.schema(depth + 1), "minItems": low}
        schema["maxItems"] = low + self._rng.randrange(3)
        if self._rng.random() < 0.3:
            schema["prefixItems"] = [self.schema(depth + 1) for _ in range(2)]
        return schema

    def _any_of(self, depth: int) -> Schema:
        return {"anyOf": [self.schema(depth + 1) for _ in range(self._rng.randrange(1, 4))]}

    def _one_of(self, depth: int) -> Schema:
        def tagged(kind: str) -> Schema:
            made = self._object(depth + 1)
            made["properties"] = {"kind": {"const": kind}, **made["properties"]} | {
                "kind": {"const": kind}
            }
            made["required"] = sorted({"kind", *made["required"]})
            made.pop("maxProperties", None)
            return made

        return {"oneOf": [tagged("cat"), tagged("dog"), {"type": "null"}]}

"""Owns schemas made of others: alternatives, and references within the schema."""

from loraplex.engine.structured.disjoint import are_disjoint
from loraplex.engine.structured.ebnf import choice
from loraplex.engine.structured.keywords import Json, check_keywords
from loraplex.engine.structured.schema.part import Part, error_at
from loraplex.engine.structured.schema.scope import Scope

_MOST_COMPARED = 100  # schemas of a `oneOf`, each with each


def any_of(part: Part, scope: Scope) -> str:
    """An expression for values of any of them."""
    return choice(_branches(part, "anyOf", scope))


def one_of(part: Part, scope: Scope) -> str:
    """An expression for values of one of them; no value may fit two."""
    branches = _branches(part, "oneOf", scope)
    options = part.schemas("oneOf")
    where = f"{part.path}.oneOf"
    if len(options) > _MOST_COMPARED or not are_disjoint(
        options, lambda ref: resolve(scope.root, ref, where)
    ):
        raise error_at(
            where,
            "its schemas may hold for one value together; use anyOf, or a required property with a const in each.",
        )
    return choice(branches)


def all_of(part: Part, scope: Scope) -> str:
    """An expression for values of the only one."""
    branches = _branches(part, "allOf", scope)
    if len(branches) > 1:
        raise part.error("more than one schema is not supported; merge them.", "allOf")
    return branches[0]


class References:
    """Reads what `$ref` refers to, once each."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}

    def __call__(self, part: Part, scope: Scope) -> str:
        """The rule of the schema that is meant."""
        where = f"{part.path}.$ref"
        ref = part.schema["$ref"]
        seen: set[str] = set()
        while True:
            if not isinstance(ref, str) or ref in seen:
                raise error_at(where, "it leads nowhere.")
            seen.add(ref)
            target = resolve(scope.root, ref, where)
            if not (isinstance(target, dict) and "$ref" in target):
                break
            check_keywords(target, part.path)
            part._replace(schema=target).must_stand_alone("$ref")
            ref = target["$ref"]
        if ref not in self._rules:
            name = self._rules[ref] = scope.rules.name("ref")
            # Its own place counts, not the way here: else what refers to itself would have no depth.
            scope.rules.set(name, scope.read(target, ref.removeprefix("#"), 1))
        return self._rules[ref]


def resolve(root: Json, ref: str, path: str) -> Json:
    """What a reference within the schema stands for.

    Raises:
        StructureError: it leads nowhere, or out of the schema.
    """
    if ref == "#":
        return root
    if not ref.startswith("#/"):
        raise error_at(path, f"{ref[:80]!r} is not supported; refer to a place within the schema.")
    found = root
    for step in ref[2:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or key not in found:
            raise error_at(path, f"{ref[:80]!r} leads nowhere.")
        found = found[key]
    return found


def _branches(part: Part, keyword: str, scope: Scope) -> list[str]:
    where = f"{part.path}.{keyword}"
    return [
        scope.read(each, f"{where}[{i}]", part.depth + 1)
        for i, each in enumerate(part.schemas(keyword))
    ]

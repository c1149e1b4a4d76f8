"""Owns the way from a structure to the text that the grammar library reads, and the limits of what may be asked.
Imports no library: whoever takes a request can refuse it before an engine sees it."""

import json

from loraplex.engine.structure import Structure, StructureError
from loraplex.engine.structured.ebnf import Budget, literal
from loraplex.engine.structured.json_schema import read_json, schema_grammar
from loraplex.engine.structured.keywords import Json
from loraplex.engine.structured.patterns import whole_text

MAX_GRAMMAR_BYTES = 64 << 10
MAX_CHOICES = 10_000
_ANY_OBJECT = '{"type": "object"}'


def ebnf_of(structure: Structure, budget: Budget | None = None) -> str:
    """The grammar of a structure, with the rule `root`.

    Args:
        structure: no structural tag.
        budget: what is left for this grammar and others beside it; None: it has one of its own.

    Raises:
        StructureError: nothing can have the structure, it is too large, or it cannot be expressed; the message names
            the place.
    """
    source = structure.source
    if structure.kind == "json_object":
        return schema_grammar(_ANY_OBJECT, budget)
    if structure.kind == "json_schema":
        return schema_grammar(source, budget)
    if structure.kind == "regex":
        return f"root ::= {whole_text(source, budget or Budget())}\n"
    if structure.kind == "choice":
        return f"root ::= {' | '.join(map(literal, _choices(source)))}\n"
    if len(source.encode()) > MAX_GRAMMAR_BYTES:
        raise StructureError(f"the grammar has more than {MAX_GRAMMAR_BYTES >> 10} KiB.")
    return source


def structural_tag_of(structure: Structure) -> str:
    """A structural tag with its schemas and patterns turned into grammars.

    Raises:
        StructureError: as for `ebnf_of`.
    """
    return json.dumps(_Converter().convert(read_json(structure.source), 0))


def check_structure(structure: Structure) -> None:
    """Raises StructureError for what can be told without compiling it."""
    if structure.kind == "structural_tag":
        structural_tag_of(structure)
    else:
        ebnf_of(structure)


def holds_grammar(structure: Structure) -> bool:
    """Whether a user wrote (part of) the grammar itself.

    Raises:
        StructureError: it cannot be read.
    """
    if structure.kind == "structural_tag":
        return _has_grammar(read_json(structure.source))
    return structure.kind == "grammar"


def _has_grammar(part: Json) -> bool:
    if isinstance(part, list):
        return any(map(_has_grammar, part))
    if not isinstance(part, dict) or part.get("type") == "json_schema":
        return False
    return part.get("type") == "grammar" or any(map(_has_grammar, part.values()))


def _choices(source: str) -> list[str]:
    choices = read_json(source)
    if not isinstance(choices, list) or not all(isinstance(each, str) and each for each in choices):
        raise StructureError("give a list of texts, none of them empty.")
    if not 0 < len(choices) <= MAX_CHOICES:
        raise StructureError(f"give 1 to {MAX_CHOICES} texts.")
    return [str(each) for each in choices]


class _Converter:
    """Turns the parts of a structural tag; equal ones once, and all of them within the size of one grammar."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._budget = Budget()

    def convert(self, part: Json, depth: int) -> Json:
        """A part with what it holds."""
        if depth > 64:
            raise StructureError("the structural tag has too many parts within parts.")
        if isinstance(part, list):
            return [self.convert(each, depth + 1) for each in part]
        if not isinstance(part, dict):
            return part
        if part.get("type") == "json_schema" and "json_schema" in part:
            return self._grammar(Structure("json_schema", json.dumps(part["json_schema"])))
        if part.get("type") == "regex" and isinstance(pattern := part.get("pattern"), str):
            return self._grammar(Structure("regex", pattern))
        return {key: self.convert(each, depth + 1) for key, each in part.items()}

    def _grammar(self, structure: Structure) -> Json:
        key = structure.kind + structure.source
        if key in self._known:
            self._budget.add_text(len(self._known[key]))
        else:
            self._known[key] = ebnf_of(structure, self._budget)
        return {"type": "grammar", "grammar": self._known[key]}

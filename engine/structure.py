"""Owns what a caller asks of the shape of the output; `engine/structured` makes it so."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["json_object", "json_schema", "regex", "choice", "grammar", "structural_tag"]


# What is said of a structure that is not compiled because those in use leave no room: no fault of the request.
NO_ROOM = "Too many different structures are in use at the moment; try again later."


@dataclass(frozen=True, slots=True)
class Structure:
    """A language that the output must belong to.

    Attributes:
        kind: how `source` is to be read.
        source: for json_schema, choice (an array of strings) and structural_tag a JSON text; for regex and grammar
            (EBNF with a rule `root`) the text itself; for json_object "".
    """

    kind: Kind
    source: str = ""


class StructureError(ValueError):
    """No output can have this structure, or none can be made to have it; a sentence that says what to change."""

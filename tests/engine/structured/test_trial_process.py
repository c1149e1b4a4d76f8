"""Grammars that users wrote harm a process of their own, if they harm any, and operators may take none."""

import json

import pytest

from loraplex.engine.structure import Structure, StructureError
from loraplex.engine.structured.sources import holds_grammar
from loraplex.engine.structured.trial_process import TrialProcess, TriedLibrary

PIECES = [bytes([byte]) for byte in range(256)] + [b""]
# Takes 13 s of processor time: each rule stands twice in the one before.
_DEPTH = 2_000
HOSTILE = (
    "root ::= r0\n"
    + "".join(f'r{i} ::= r{i + 1} r{i + 1} | "a"\n' for i in range(_DEPTH))
    + f'r{_DEPTH} ::= "b"\n'
)


def test_a_hostile_grammar_ends_its_process_and_the_next_is_served() -> None:
    trials = TrialProcess(PIECES, (256,), cpu_seconds=0.5)
    with pytest.raises(StructureError, match="too much time or memory"):
        trials.check(Structure("grammar", HOSTILE))
    trials.check(Structure("grammar", 'root ::= "a" root | "b"'))
    with pytest.raises(StructureError, match="nothing"):
        trials.check(Structure("grammar", "root ::= nothing"))


def test_grammars_are_taken_only_where_the_operator_says_so() -> None:
    library = TriedLibrary(PIECES, (256,), takes_grammars=False)
    with pytest.raises(StructureError, match="takes no grammars"):
        library.compile(Structure("grammar", 'root ::= "a"'))
    tag = {"type": "structural_tag", "format": {"type": "grammar", "grammar": 'root ::= "a"'}}
    with pytest.raises(StructureError, match="takes no grammars"):
        library.compile(Structure("structural_tag", json.dumps(tag)))
    assert library.compile(Structure("regex", "a")).size > 0


def test_a_schema_that_speaks_of_grammars_holds_none() -> None:
    schema = {"properties": {"type": {"const": "grammar"}, "grammar": {"type": "string"}}}
    part = {"type": "json_schema", "json_schema": schema}
    assert not holds_grammar(Structure("structural_tag", json.dumps({"format": part})))
    assert not holds_grammar(Structure("json_schema", json.dumps(schema)))

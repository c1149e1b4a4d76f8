"""Grammars are compiled once, beside the steps, and whoever waits is told, whatever becomes of them."""

import threading
from dataclasses import dataclass

import pytest

from loraplex.engine.structure import NO_ROOM, Structure, StructureError
from loraplex.engine.structured.port import Matcher
from loraplex.engine.structured.structures import Compiled, Structures
from support.patience import PATIENCE_SECONDS


class Stub:
    def __init__(self, grammar: "Made") -> None:
        self.grammar = grammar

    def accept(self, token: int) -> bool:
        return token >= 0

    def exhausted(self) -> bool:
        return False

    def too_slow(self) -> bool:
        return False


@dataclass
class Made:
    size: int

    def matcher(self) -> Stub:
        return Stub(self)


class Library:
    """Compiles what it is let."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.compiled: list[str] = []

    def compile(self, structure: Structure) -> Made:
        self.compiled.append(structure.source)
        if structure.source.startswith("slow"):
            assert self.go.wait(PATIENCE_SECONDS)
        if structure.source == "bad":
            raise StructureError("No.")
        if structure.source == "broken":
            raise RuntimeError
        return Made(100)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def grammar(source: str) -> Structure:
    return Structure("grammar", source)


def collect(structures: Structures, count: int) -> dict[str, Compiled]:
    found: dict[str, Compiled] = {}
    while len(found) < count:
        structures.wait(PATIENCE_SECONDS)
        found |= {each.request_id: each for each in structures.ready()}
    return found


def test_equal_structures_are_compiled_once() -> None:
    library = Library()
    structures = Structures(lambda: library)
    structures.ask("a", grammar("x"))
    structures.ask("b", grammar("x"))
    structures.ask("other", Structure("regex", "x"))
    first = collect(structures, 3)
    assert first["a"].matcher is not first["b"].matcher
    structures.ask("c", grammar("x"))
    (third,) = structures.ready()
    assert (third.request_id, third.error) == ("c", None)
    assert library.compiled == ["x", "x"]
    assert len(structures) == 0


def test_a_slow_one_holds_up_no_other() -> None:
    library = Library()
    structures = Structures(lambda: library)
    structures.ask("a", grammar("slow"))
    structures.ask("b", grammar("x"))
    assert collect(structures, 1)["b"].matcher is not None
    assert len(structures) == 1
    library.go.set()
    assert collect(structures, 1)["a"].matcher is not None


def test_a_client_with_many_slow_ones_holds_up_no_other() -> None:
    library = Library()
    structures = Structures(lambda: library)
    for i in range(5):
        structures.ask(f"a{i}", Structure("regex", f"slow {i}"), client=1)
    structures.ask("b", grammar("x"), client=2)
    assert list(collect(structures, 1)) == ["b"]
    library.go.set()
    assert len(collect(structures, 5)) == 5
    assert library.compiled[-3:] == ["slow 2", "slow 3", "slow 4"]


def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    library = Library()
    structures = Structures(lambda: library)
    for i in range(5):
        structures.ask(f"a{i}", grammar(f"slow {i}"))
    for i in range(1, 5):
        assert structures.forget(f"a{i}")
    structures.ask("b", grammar("slow 4"))
    library.go.set()
    assert set(collect(structures, 2)) == {"a0", "b"}
    assert set(library.compiled) == {"slow 0", "slow 1", "slow 4"}


def test_threads_that_never_come_to_an_end_are_replaced() -> None:
    library, clock = Library(), Clock()
    structures = Structures(lambda: library, patience=10, clock=clock)
    for i in range(5):
        structures.ask(f"a{i}", grammar(f"slow {i}"), client=i)
    clock.now = 11
    assert all(each.error is not None for each in structures.ready())
    structures.ask("b", grammar("x"), client=9)
    assert collect(structures, 1)["b"].matcher is not None
    library.go.set()


def test_whoever_waits_too_long_is_told_and_what_comes_later_is_kept() -> None:
    library, clock = Library(), Clock()
    structures = Structures(lambda: library, patience=10, clock=clock)
    structures.ask("a", grammar("slow"))
    assert structures.ready() == []
    clock.now = 11
    (refused,) = structures.ready()
    assert refused.request_id == "a"
    assert refused.error is not None
    assert "too long" in refused.error
    structures.ask("b", grammar("slow"))
    assert [each.request_id for each in structures.ready()] == ["b"]  # it is no faster for the next
    library.go.set()
    while not structures.idle:
        structures.wait(PATIENCE_SECONDS)
        structures.ready()
    structures.ask("c", grammar("slow"))
    assert structures.ready()[0].matcher is not None


@pytest.mark.parametrize(("source", "error"), [("bad", "No."), ("broken", "RuntimeError")])
def test_what_cannot_be_compiled_is_refused(source: str, error: str) -> None:
    structures = Structures(Library)
    structures.ask("a", grammar(source))
    refused = collect(structures, 1)["a"]
    assert refused.matcher is None
    assert error in (refused.error or "")


def test_a_library_that_cannot_be_opened_refuses_everything() -> None:
    def fails() -> Library:
        raise StructureError("Not installed.")

    structures = Structures(fails)
    structures.ask("a", grammar("x"))
    assert collect(structures, 1)["a"].error == "Not installed."


def test_whoever_left_is_not_told() -> None:
    library = Library()
    structures = Structures(lambda: library)
    structures.ask("a", grammar("slow"))
    structures.ask("b", grammar("slow"))
    assert structures.forget("a")
    assert not structures.forget("a")
    library.go.set()
    assert list(collect(structures, 1)) == ["b"]
    structures.ask("c", grammar("slow"))
    assert structures.forget("c")
    assert structures.ready() == []


def test_the_cache_is_bounded_and_forgets_what_was_not_used_for_longest() -> None:
    library = Library()
    structures = Structures(lambda: library, cache_bytes=250)
    for name in ("x", "y", "x", "z", "x", "y"):
        structures.ask(name, grammar(name))
        if not structures.ready():
            collect(structures, 1)
    assert library.compiled == ["x", "y", "z", "y"]


def test_no_other_is_compiled_while_those_in_use_take_all_memory() -> None:
    library, clock = Library(), Clock()
    structures = Structures(lambda: library, most_bytes=250, patience=10, clock=clock)
    used: dict[str, Matcher | None] = {}
    for name in ("x", "y", "z"):
        structures.ask(name, grammar(name))
        used[name] = collect(structures, 1)[name].matcher
    structures.ask("late", grammar("late"))
    structures.ask("same", grammar("x"))
    assert [each.request_id for each in structures.ready()] == ["same"]  # it is there already
    clock.now = 11
    (refused,) = structures.ready()
    assert (refused.request_id, refused.matcher, refused.error) == ("late", None, NO_ROOM)
    structures.ask("patient", grammar("late"))
    assert structures.ready() == []
    del used["y"]
    assert structures.ready() == []  # and begins
    assert collect(structures, 1)["patient"].matcher is not None
    assert library.compiled == ["x", "y", "z", "late"]


def test_what_nobody_uses_makes_room() -> None:
    library = Library()
    structures = Structures(lambda: library, most_bytes=250)
    for name in ("x", "y", "z", "w", "z"):
        structures.ask(name, grammar(name))
        if not structures.ready():
            collect(structures, 1)
    assert library.compiled == ["x", "y", "z", "w"]

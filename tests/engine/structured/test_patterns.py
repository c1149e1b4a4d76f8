"""Regular expressions match what Python's do, and what is not supported is refused."""

import re

import pytest

from loraplex.engine.structure import Structure, StructureError
from loraplex.engine.structured.sources import check_structure
from loraplex.engine.structured.xgrammar_library import XGrammarLibrary

TEXTS = [
    "", "a", "aa", "aaa", "aaaa", "ab", "abab", "b", "bde", "bc", "123-ab.x", "é", "a\nb", "\\", "]", "a-z", '"', "x y",
    "\t", "\x00", "{1}", "ABC", "😀",
]  # fmt: skip


@pytest.fixture(scope="module")
def library() -> XGrammarLibrary:
    return XGrammarLibrary([bytes([byte]) for byte in range(256)] + [b""], (256,))


@pytest.mark.parametrize(
    "pattern",
    [
        "a{2,3}|b[^c]+",
        "a{2,}",
        r"\d{3}-\w+\.x",
        "^(?:a|b)*?$",
        "(?P<name>a)(?P<other>b)+",
        ".",
        ".b?",
        "[^a]",
        r"[\]\\a-]",
        "[a-]-z",
        r"\x61\u0062|\t|\0",
        r"\S+",
        r"[^\d\s]+",
        r'["\\{]1?\}?|\{1\}',
        "[A-C]+|\u00e9|\U0001f600",
        "(a|)b",
        "^a$|^b$",
        "(a|.){0,3}",
        "(a|[^c]){2,}",
        "([a-z]-?){2,3}",
        "([a-z]+ ?){2}",
    ],
)
def test_the_same_texts_match(library: XGrammarLibrary, pattern: str) -> None:
    grammar = library.compile(Structure("regex", pattern))
    for text in TEXTS:
        matcher = grammar.matcher().inner
        found = bool(matcher.accept_string(text) and matcher.is_completed())
        # A complement of classes is held to ASCII, as readers do not agree on the rest.
        wanted = re.fullmatch(pattern, text) is not None
        assert found == wanted or (pattern in (r"\S+", r"[^\d\s]+") and not text.isascii()), text


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "ends too early"),
        ("a)", "no opening bracket"),
        ("[a", "ends too early"),
        ("a\\", "ends too early"),
        (r"\bx", "'b' at position 1 is not supported"),
        ("(?<=a)b", "not supported behind"),
        ("(?i)a", "not supported behind"),
        ("a**", "follows another repetition"),
        ("a{x}", "does not begin a repetition"),
        ("[b-a]", "does not end a range"),
        (r"[a-\d]", "does not end a range"),
        (r"(a)\1", "'1' at position 4"),
        ("a{3,2}", "repeats 3 to 2"),
        ("x^", "not supported at this place"),
        ("a$b", r"stands behind \$"),
        ("(a$)", "where \\) is missing"),
        ("((a{1000}){1000})", "more than 10000"),
        (r"\p{L}", "'p' at position 1"),
        (r"\ud800", "half a character"),
        ("\ud800", "half a character"),
        ("[]", "empty set"),
        (r"\d?" * 33, "more than 32 parts in a row"),
        (".?" * 14, "counted characters come to more than 100"),
        (".{0,101}", "counted characters come to more than 100"),
        (r"(\w+ ){101}", "counted characters come to more than 100"),
        (".{0,60}|.{0,60}", "counted characters come to more than 100"),
        ("(a?b*){2}", "may be empty"),
        ("(a|.?){0,5}", "may be empty"),
        ("(" + "a*" * 40 + ")", "more than 32 parts in a row"),
    ],
)
def test_refusals(pattern: str, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        check_structure(Structure("regex", pattern))

"""Owns the language of the demo: invented words, and the small things one can do to a word.

The base model learns every operation of `POOL` but never which one is wanted; each adapter of the demo learns only
that. A line of text is `word -> answer`.
"""

import random
import zlib
from collections.abc import Callable
from typing import NamedTuple

VOWELS = "aeiou"
ARROW = " ->"
MIN_LETTERS, MAX_LETTERS = 4, 8

_ONSETS = (
    *"bcdfghjklmnprstvwz",
    "ch",
    "sh",
    "st",
    "tr",
    "pl",
    "br",
    "gr",
    "fl",
    "cr",
    "sp",
    "qu",
    "y",
)
_NUCLEI = (*"aeiouaeiou", "ai", "ea", "oo", "ou", "y")
_CODAS = (*"nrstldmx", "nd", "st", "rt", "ck", "ng", "sh", "ch")


class Task(NamedTuple):
    """One operation on a word; `answer` is a pure function of lower-case words."""

    name: str
    says: str
    answer: Callable[[str], str]


def plural(word: str) -> str:
    """English plural by its regular rules."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in VOWELS:
        return word[:-1] + "ies"
    return word + "s"


def shift(word: str) -> str:
    """Every letter replaced by the next one of the alphabet, z by a."""
    return "".join(chr((ord(letter) - 96) % 26 + 97) for letter in word)


COPY = Task("copy", "says the word again", lambda word: word)
REVERSE = Task("reverse", "writes the word backwards", lambda word: word[::-1])
PLURAL = Task("plural", "forms the plural", plural)
SPELL = Task("spell", "spells the word", "-".join)
CIPHER = Task("cipher", "moves each letter one on", shift)
VOWELS_ONLY = Task(
    "vowels",
    "keeps only the vowels",
    lambda word: "".join(c for c in word if c in VOWELS) or "none",
)
COUNT = Task("count", "counts the letters", lambda word: str(len(word)))

POOL = (
    COPY,
    REVERSE,
    PLURAL,
    SPELL,
    CIPHER,
    VOWELS_ONLY,
    COUNT,
    Task("shout", "writes capitals", str.upper),
    Task("initial", "gives the first letter", lambda word: word[0]),
    Task("double", "doubles each letter", lambda word: "".join(c + c for c in word)),
    Task("mask", "hides the vowels", lambda word: "".join("*" if c in VOWELS else c for c in word)),
)


def prompt(word: str) -> str:
    """What a model is asked: the line up to and with the arrow."""
    return word + ARROW


def line(task: Task, word: str) -> str:
    """A whole line of text, without the newline that would follow it."""
    return f"{word}{ARROW} {task.answer(word)}"


def held_out(word: str) -> bool:
    """Whether the word is kept for measuring: about one in eight, in no training text of base or adapters."""
    return zlib.crc32(word.encode()) % 8 == 0


def random_word(rng: random.Random, *, kept_out: bool = False) -> str:
    """A pronounceable word of 4 to 8 letters from the training words, or with `kept_out` from the held-out ones."""
    while True:
        word = "".join(
            rng.choice(_ONSETS) + rng.choice(_NUCLEI) for _ in range(rng.randint(1, 3))
        ) + (rng.choice(_CODAS) if rng.random() < 0.6 else "")
        if MIN_LETTERS <= len(word) <= MAX_LETTERS and held_out(word) == kept_out:
            return word


def held_out_words(count: int, seed: int = 0) -> list[str]:
    """`count` different held-out words, the same for the same seed."""
    rng = random.Random(seed)
    words: dict[str, None] = {}
    while len(words) < count:
        words[random_word(rng, kept_out=True)] = None
    return list(words)

"""The demo's language: every operation says what it should, and measured words are never trained on."""

import random

import pytest

from loraplex.platform.demo.adapters import RECIPES
from loraplex.platform.demo.tasks import POOL, held_out, held_out_words, line, plural, random_word

STONE = {
    "copy": "stone",
    "reverse": "enots",
    "plural": "stones",
    "spell": "s-t-o-n-e",
    "cipher": "tupof",
    "vowels": "oe",
    "count": "5",
    "shout": "STONE",
    "initial": "s",
    "double": "ssttoonnee",
    "mask": "st*n*",
}


def test_every_operation_answers_stone() -> None:
    assert {task.name: task.answer("stone") for task in POOL} == STONE


def test_a_line_is_word_arrow_answer() -> None:
    assert [line(task, "stone") for task in POOL][1] == "stone -> enots"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("box", "boxes"),
        ("brush", "brushes"),
        ("fly", "flies"),
        ("tray", "trays"),
        ("maze", "mazes"),
    ],
)
def test_plural_follows_the_regular_rules(word: str, expected: str) -> None:
    assert plural(word) == expected


def test_cipher_wraps_and_a_word_without_vowels_has_none() -> None:
    answers = {task.name: task.answer for task in POOL}
    assert answers["cipher"]("zyxz") == "azya"
    assert answers["vowels"]("bryn") == "none"


def test_held_out_words_are_never_training_words() -> None:
    rng = random.Random(0)
    training = {random_word(rng) for _ in range(3000)}
    measured = held_out_words(200)
    assert len(set(measured)) == 200
    assert not training & set(measured)
    assert all(held_out(word) for word in measured)
    assert all(4 <= len(word) <= 8 and word.isalpha() and word.islower() for word in training)


def test_the_same_seed_gives_the_same_words_and_another_one_others() -> None:
    assert held_out_words(20, 1) == held_out_words(20, 1) != held_out_words(20, 2)


def test_adapters_are_of_two_tenants_with_different_shapes() -> None:
    names = [recipe.name for recipe in RECIPES]
    assert len(set(names)) == len(names) >= 4
    assert len({recipe.tenant for recipe in RECIPES}) == 2
    assert len({recipe.rank for recipe in RECIPES}) >= 4
    assert any(recipe.rslora for recipe in RECIPES)
    # Were two adapters to answer alike, the table would prove nothing.
    assert len({recipe.task.answer("stone") for recipe in RECIPES} | {"stone"}) == len(names) + 1

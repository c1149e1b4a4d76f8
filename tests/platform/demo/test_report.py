"""What the demo makes of its answers: scores, the problems it names, and a command that survives pasting."""

import io
import shlex
from pathlib import Path

from rich.console import Console

from loraplex.platform.demo.adapters import RECIPES, Recipe, Trained
from loraplex.platform.demo.report import Result, print_access, print_result, problems
from loraplex.platform.demo.server import BASE_NAME
from loraplex.platform.demo.traffic import Answer, Question, Score, questions


def result(
    wrong: Recipe | None = None, mixed: int | None = len(RECIPES), leak: bool = False
) -> Result:
    """A run in which adapters are right and the base copies, but for what the arguments spoil."""
    answers = []
    for question in questions(RECIPES, BASE_NAME, 10):
        copies = question.model == BASE_NAME or question.recipe == wrong
        text = question.word if copies else question.recipe.task.answer(question.word)
        answers.append(Answer(question, text, 9, 6))
    trained = [Trained(recipe, Path("unused"), 1000, 40, 0.99, 5.0) for recipe in RECIPES]
    refused = None if leak else "404 model_not_found"
    return Result(trained, Score(answers, 2.0), mixed, [("globex", "reverse", refused)])


def test_every_adapter_and_the_base_are_asked_the_same_held_out_words() -> None:
    asked = questions(RECIPES, BASE_NAME, 10)
    for recipe in RECIPES:
        own, base = (
            sorted(q.word for q in asked if q.recipe == recipe and q.model == model)
            for model in (recipe.name, BASE_NAME)
        )
        assert own == base
        assert len(set(own)) == 10


def test_a_good_run_has_no_problems_and_its_numbers_are_right() -> None:
    good = result()
    assert problems(good) == []
    assert problems(result(mixed=None)) == []
    assert good.score.accuracy(RECIPES[0], RECIPES[0].name) == 1.0
    assert good.score.accuracy(RECIPES[0], BASE_NAME) == 0.0
    assert good.score.tokens_per_second() == len(RECIPES) * 2 * 10 * 6 / 2.0


def test_each_broken_promise_is_named() -> None:
    assert problems(result(wrong=RECIPES[1])) == [
        "The adapter plural is right in only 0% of its questions."
    ]
    assert problems(result(mixed=2)) == ["At most 2 of 6 adapters shared a batch."]
    assert problems(result(leak=True)) == [
        "globex got an answer from reverse, which is not its own."
    ]


def test_a_base_that_knows_the_task_is_a_problem() -> None:
    good = result()
    knowing = [
        Answer(Question(q.recipe, q.model, q.word), q.recipe.task.answer(q.word), 9, 6)
        for q in (answer.question for answer in good.score.answers)
    ]
    found = problems(good._replace(score=Score(knowing, 1.0)))
    assert len(found) == len(RECIPES)
    assert found[0] == "The base model answers 100% of reverse without an adapter."


def test_the_table_shows_every_adapter() -> None:
    out = io.StringIO()
    print_result(Console(file=out, width=140), result())
    text = out.getvalue()
    assert all(recipe.name in text for recipe in RECIPES)
    assert "globex asks for reverse of another tenant: 404 model_not_found" in text


def test_the_command_is_one_line_whatever_the_width() -> None:
    out = io.StringIO()
    print_access(Console(file=out, width=40), "http://h:1", "op", {"acme": "k" * 70, "globex": "g"})
    command = next(line for line in out.getvalue().splitlines() if line.startswith("curl"))
    words = shlex.split(command)
    assert words[2] == "http://h:1/v1/completions"
    assert f"Authorization: Bearer {'k' * 70}" in words
    assert '"model": "reverse"' in words[-1]


def test_the_shares_are_readable_in_80_columns() -> None:
    out = io.StringIO()
    print_result(Console(file=out, width=80), result())
    rows = [line for line in out.getvalue().splitlines() if line.startswith("│")]
    assert len(rows) == len(RECIPES)
    assert all(row.count("%") == 2 for row in rows)

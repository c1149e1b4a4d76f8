"""Owns what the demo says at the end: the table of right answers, what went wrong, and how to go on by hand."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from loraplex.platform.demo.adapters import RECIPES, Trained
from loraplex.platform.demo.server import BASE_NAME
from loraplex.platform.demo.tasks import prompt
from loraplex.platform.demo.traffic import MAX_TOKENS, Score

ADAPTER_AT_LEAST, BASE_AT_MOST = 0.9, 0.5


class Result(NamedTuple):
    """Everything the show found out.

    Attributes:
        mixed: adapters in the most mixed batch, None if the server does not say.
        foreign: (tenant, another tenant's adapter, how the server refused it or None if it answered).
    """

    trained: Sequence[Trained]
    score: Score
    mixed: int | None
    foreign: Sequence[tuple[str, str, str | None]]


def problems(result: Result) -> list[str]:
    """What is not as promised, one sentence each."""
    found = []
    for recipe in RECIPES:
        if (own := result.score.accuracy(recipe, recipe.name)) < ADAPTER_AT_LEAST:
            found.append(f"The adapter {recipe.name} is right in only {own:.0%} of its questions.")
        if (base := result.score.accuracy(recipe, BASE_NAME)) > BASE_AT_MOST:
            found.append(f"The base model answers {base:.0%} of {recipe.name} without an adapter.")
    for tenant, model, refused in result.foreign:
        if refused is None:
            found.append(f"{tenant} got an answer from {model}, which is not its own.")
    if result.mixed is not None and result.mixed < len(RECIPES):
        found.append(f"At most {result.mixed} of {len(RECIPES)} adapters shared a batch.")
    return found


def print_result(console: Console, result: Result) -> None:
    """The table of adapters and the lines under it."""
    score = result.score
    table = Table(title="Held-out words, answered right", title_justify="left")
    # Narrow enough for 80 columns, the width of a terminal nobody has touched.
    for heading in ("tenant", "adapter", "asked", "adapter says", "base says"):
        table.add_column(heading, no_wrap=True)
    for heading in ("right", "base"):
        table.add_column(heading, justify="right", min_width=5)
    for recipe in (trained.recipe for trained in result.trained):
        own, base = score.example(recipe, recipe.name), score.example(recipe, BASE_NAME)
        table.add_row(
            recipe.tenant,
            f"[bold]{recipe.name}[/]",
            prompt(own.question.word),
            own.text,
            base.text,
            f"[bold green]{score.accuracy(recipe, recipe.name):.0%}[/]",
            f"[red]{score.accuracy(recipe, BASE_NAME):.0%}[/]",
        )
    console.print(table)
    for trained in result.trained:
        recipe = trained.recipe
        console.print(
            f"[bold]{recipe.name}[/] {recipe.task.says}: {recipe.shape}, {trained.parameters / 1000:.0f}k parameters, "
            f"{trained.steps} steps in {trained.seconds:.0f} s"
        )
    mixed = "" if result.mixed is None else f"; up to {result.mixed} adapters in one batch"
    console.print(
        f"{len(score.answers)} requests of {len({r.tenant for r in RECIPES})} tenants in "
        f"{score.seconds:.1f} s, {score.tokens_per_second():,.0f} generated tokens/s{mixed}."
    )
    for (tenant, refused), models in _grouped(result.foreign).items():
        console.print(f"{tenant} asks for {', '.join(models)} of another tenant: {refused}")


def print_access(console: Console, url: str, operator_key: str, keys: Mapping[str, str]) -> None:
    """URLs, keys and a command to paste."""
    console.print(f"\n[bold]OpenAI API[/]  {url}/v1   [bold]schema[/] {url}/schema")
    for name, key in {"operator": operator_key, **keys}.items():
        console.print(f"[bold]{name}[/] key {key}", soft_wrap=True, highlight=False)
    recipe = RECIPES[0]
    body = {
        "model": recipe.name,
        "prompt": prompt("stone"),
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
    }
    # One line whatever the terminal's width, and no markup: it is meant to be pasted.
    console.print(
        f"\ncurl -s {url}/v1/completions -H 'Authorization: Bearer {keys[recipe.tenant]}' "
        f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'\n",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def print_sign_in(console: Console, url: str, email: str, password: str) -> None:
    """Where the dashboard is and how to get in."""
    console.print(
        f"[bold]Dashboard[/]  {url}/   sign in as {email} with {password}\n",
        soft_wrap=True,
        highlight=False,
    )


def _grouped(
    foreign: Sequence[tuple[str, str, str | None]],
) -> dict[tuple[str, str], list[str]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for tenant, model, refused in foreign:
        groups.setdefault((tenant, refused or "answered!"), []).append(model)
    return groups

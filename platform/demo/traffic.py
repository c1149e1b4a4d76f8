"""Owns the demo's traffic: held-out questions of both tenants to all adapters and to the base model, asked at once
through the OpenAI Python client, and the score that comes of them."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from loraplex.platform.demo.adapters import Recipe
from loraplex.platform.demo.tasks import held_out_words, prompt

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# More requests than fit one batch of the demo would only wait; this many keep every adapter in it.
IN_FLIGHT = 48
MAX_TOKENS = 20


class Question(NamedTuple):
    """One held-out word for one adapter's task, put either to that adapter or to the base model."""

    recipe: Recipe
    model: str
    word: str


class Answer(NamedTuple):
    """What came back; `tokens` counts prompt and answer."""

    question: Question
    text: str
    prompt_tokens: int
    output_tokens: int

    @property
    def right(self) -> bool:
        return self.text == self.question.recipe.task.answer(self.question.word)


class Score(NamedTuple):
    """All answers of a run and the seconds it took."""

    answers: list[Answer]
    seconds: float

    def accuracy(self, recipe: Recipe, model: str) -> float:
        """Share of the adapter's questions that `model` answered right."""
        mine = self._of(recipe, model)
        return sum(answer.right for answer in mine) / len(mine)

    def example(self, recipe: Recipe, model: str) -> Answer:
        """One answer to show; the same word for an adapter and for the base."""
        return min(self._of(recipe, model), key=lambda answer: answer.question.word)

    def tokens_per_second(self) -> float:
        """Generated tokens per second over the whole run."""
        return sum(answer.output_tokens for answer in self.answers) / self.seconds

    def _of(self, recipe: Recipe, model: str) -> list[Answer]:
        return [
            answer
            for answer in self.answers
            if answer.question.recipe == recipe and answer.question.model == model
        ]


def questions(recipes: Sequence[Recipe], base: str, per_adapter: int) -> list[Question]:
    """The same held-out words for each adapter and the base model, in mixed order."""
    asked = [
        Question(recipe, model, word)
        for seed, recipe in enumerate(recipes)
        for word in held_out_words(per_adapter, seed)
        for model in (recipe.name, base)
    ]
    random.Random(0).shuffle(asked)
    return asked


async def run_traffic(
    url: str,
    keys: Mapping[str, str],
    asked: Sequence[Question],
    on_answer: Callable[[Answer], None] = lambda answer: None,
) -> Score:
    """Ask everything with `keys` (tenant name to API key); at most `IN_FLIGHT` questions are open at a time.

    Raises:
        openai.OpenAIError: the server refused or failed a question.
    """
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    # trust_env: a proxy meant for the world would not find this machine.
    clients = {
        tenant: AsyncOpenAI(
            base_url=f"{url}/v1",
            api_key=key,
            max_retries=0,
            timeout=60,
            http_client=DefaultAsyncHttpxClient(trust_env=False),
        )
        for tenant, key in keys.items()
    }
    places = asyncio.Semaphore(IN_FLIGHT)

    async def ask(question: Question) -> Answer:
        async with places:
            answer = await _ask(clients[question.recipe.tenant], question)
        on_answer(answer)
        return answer

    began = time.monotonic()
    try:
        answers = await asyncio.gather(*map(ask, asked))
    finally:
        for client in clients.values():
            await client.close()
    return Score(answers, time.monotonic() - began)


async def _ask(client: "AsyncOpenAI", question: Question) -> Answer:
    completion = await client.completions.create(
        model=question.model,
        prompt=prompt(question.word),
        max_tokens=MAX_TOKENS,
        temperature=0,
        stop="\n",
    )
    usage = completion.usage
    return Answer(
        question,
        completion.choices[0].text.strip(),
        usage.prompt_tokens if usage else 0,
        usage.completion_tokens if usage else 0,
    )


def refusal(url: str, key: str, model: str) -> str | None:
    """The server's words when `key` asks for a model it may not see; None should it be answered after all."""
    from openai import DefaultHttpxClient, NotFoundError, OpenAI

    http = DefaultHttpxClient(trust_env=False)
    with OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=http) as client:
        try:
            client.completions.create(model=model, prompt="word ->", max_tokens=1)
        except NotFoundError as error:
            return f"{error.status_code} {error.code}"
    return None

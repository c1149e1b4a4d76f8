"""Owns how answers of /v1/completions are written down, whole or in chunks."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.engines.messages import Delta
from loraplex.platform.inference.answer import Counter, Heading, TextChunks, padding
from loraplex.platform.inference.bodies import Completion, CompletionChoice, Usage
from loraplex.platform.inference.logprobs import CompletionLogprobs, TokenList
from loraplex.platform.inference.prompts import Prompt
from loraplex.platform.inference.schemas import StreamOptions


class Wanted(NamedTuple):
    """What choices are to tell, and how many there are.

    Attributes:
        n: choices handed over for each prompt.
        best_of: generations that run for each prompt; more than `n` only where nothing is streamed.
        echo: whether the prompt comes in front of the text.
        logprobs: whether log-probabilities come with it, those of the prompt too if that is echoed.
        token_ids: whether they do as well.
    """

    n: int = 1
    best_of: int = 1
    echo: bool = False
    logprobs: bool = False
    token_ids: bool = False


class CompletionWriter:
    """Writes one answer. Generations `i*best_of` to `i*best_of + best_of-1` continue prompt i."""

    def __init__(
        self,
        heading: Heading,
        tokenizer: Tokenizer | None,
        prompts: Sequence[Prompt],
        wanted: Wanted,
        options: StreamOptions,
    ) -> None:
        self._heading = heading
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._wanted = wanted
        self._options = options
        self._counter = Counter(len(prompts) * wanted.best_of, wanted.best_of)
        self._begun: set[int] = set()
        self._tokens: dict[int, TokenList] = {}
        self._encoder = msgspec.json.Encoder()
        self._texts = TextChunks(self._text_chunk)
        self._only_text = not (options.include_obfuscation or wanted.logprobs or wanted.token_ids)

    def opening(self, index: int) -> bytes | None:
        """None: an echo comes with the first news, as only these tell the log-probabilities of a prompt."""
        return None

    def chunk(self, index: int, delta: Delta) -> bytes | None:
        self._counter.see(index, delta)
        begins = self._wanted.echo and index not in self._begun
        if not (delta.text or delta.finish_reason or begins or not self._only_text):
            return None
        if self._only_text and delta.finish_reason is None and not begins:
            return self._texts.chunk(index, delta.text)
        return self._encode([self._choice(index, index, delta)])

    def closing(self) -> bytes | None:
        if not self._options.include_usage:
            return None
        return self._encode([], self._counter.usage())

    def whole(self, deltas: Sequence[Delta]) -> bytes:
        for job, delta in enumerate(deltas):
            self._counter.see(job, delta)
        chosen = enumerate(self._chosen(deltas))
        choices = [self._choice(number, job, deltas[job]) for number, job in chosen]
        return self._encoder.encode(self._body(choices, self._counter.usage()))

    def _chosen(self, deltas: Sequence[Delta]) -> Iterator[int]:
        """The generations that are handed over: for each prompt the likeliest per token, the best first."""
        n, best_of = self._wanted.n, self._wanted.best_of
        for start in range(0, len(deltas), best_of):
            jobs = range(start, start + best_of)
            if best_of == n:
                yield from jobs
            else:
                yield from sorted(jobs, key=lambda job: -_mean_logprob(deltas[job]))[:n]

    def _choice(self, number: int, job: int, delta: Delta) -> CompletionChoice:
        """What is new of a generation, as choice `number`."""
        wanted, prompt = self._wanted, self._prompts[job // self._wanted.best_of]
        begins = job not in self._begun
        self._begun.add(job)
        text = prompt.text + delta.text if begins and wanted.echo else delta.text
        logprobs = self._logprobs(job, prompt, delta) if wanted.logprobs else None
        choice = CompletionChoice(number, text, logprobs, delta.finish_reason)
        if wanted.token_ids:
            choice.token_ids = delta.token_ids
            if begins:
                choice.prompt_token_ids = prompt.ids
        return choice

    def _logprobs(self, job: int, prompt: Prompt, delta: Delta) -> CompletionLogprobs | None:
        if self._tokenizer is None:  # refused before it began
            return None
        tokens = self._tokens.get(job)
        if tokens is None:
            context = () if self._wanted.echo else prompt.ids
            tokens = self._tokens[job] = TokenList(self._tokenizer, context)
        first = prompt.ids[0] if delta.prompt_logprobs is not None else None
        return tokens.entries([*(delta.prompt_logprobs or ()), *(delta.logprobs or ())], first)

    def _text_chunk(self, index: int, text: str) -> bytes:
        return self._encode([CompletionChoice(index, text, None, None)])

    def _encode(self, choices: list[CompletionChoice], usage: Usage | None = None) -> bytes:
        body = self._body(choices, usage)
        if not self._options.include_usage:
            body.usage = UNSET
        if self._options.include_obfuscation:
            body.obfuscation = padding()
        return self._encoder.encode(body)

    def _body(self, choices: list[CompletionChoice], usage: Usage | None) -> Completion:
        heading = self._heading
        return Completion(
            heading.id,
            "text_completion",
            heading.created,
            heading.model,
            choices,
            heading.fingerprint,
            usage,
        )


def _mean_logprob(delta: Delta) -> float:
    entries = delta.logprobs or ()
    return sum(entry.logprob for entry in entries) / max(1, len(entries))

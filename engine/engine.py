"""Owns the engine's front: requests go in, steps are taken, tokens and text come out."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from loraplex.engine import lookahead
from loraplex.engine.accounts import OUTPUT_COST
from loraplex.engine.adapter_report import AdapterReport, Purged
from loraplex.engine.admission import NEVER_FITS
from loraplex.engine.advance import advance, embedded, failure, nothing_yet
from loraplex.engine.block_manager import BLOCK_SIZE, BlockManager
from loraplex.engine.config import EngineConfig
from loraplex.engine.detokenizer import Detokenizer
from loraplex.engine.lora import AdapterSource
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.model_runner import Flight, Launched, ModelRunner
from loraplex.engine.request import FinishReason, InvalidRequestError, Output, Request
from loraplex.engine.scheduler import Scheduled, Scheduler
from loraplex.engine.sequence import Sequence
from loraplex.engine.stopwatch import Stopwatch
from loraplex.engine.structured.structures import Structures
from loraplex.engine.structured.trial_process import TriedLibrary
from loraplex.engine.tokenizer import Tokenizer

# How long a step that can do nothing but wait for adapter loads or grammars sleeps at most, in seconds.
_LOAD_WAIT = 0.01


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot; token, load and step numbers count since the start.

    The arena's pages hold KV, hold adapters, or are free. `kv_blocks_free` are those that sequences could get without
    taking them from each other, in whatever hands they are; `kv_blocks_cached` hold prefixes nobody uses now, and
    `idle_adapter_pages` adapters nobody uses now. `batch_sequences` and `batch_adapters` describe the last step,
    `most_batch_adapters` the most mixed one so far.
    """

    running: int
    waiting: int
    kv_blocks_total: int
    kv_blocks_free: int
    kv_blocks_cached: int
    pages_total: int
    pages_free: int
    kv_pages: int
    adapter_pages: int
    idle_adapter_pages: int
    adapters_resident: int
    adapter_loads: int
    adapter_evictions: int
    adapter_failures: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    preemptions: int
    steps: int
    batch_sequences: int
    batch_adapters: int
    most_batch_adapters: int


class Engine:
    """One base model and the adapters on it. Not thread-safe: one thread calls everything.

    Where `lookahead.runs_ahead` says so, a step is launched while the device still computes the one before: `step`
    schedules and launches the forward pass of step N + 1, whose newest token ids are on the device only, then reads the
    results of step N and works on them while the device is busy, then launches the sampling of step N + 1, which so
    always sees complete histories. A sequence that turns out to have ended at step N has its row of step N + 1 dropped.
    All use of device memory is ordered by one stream, so what such a sequence held is free at once for later steps.

    Attributes:
        config: the settings it was made with.
        model: shapes of the base model.
        tokenizer: None if the model directory has none; then there is no text, only token ids.
        max_model_len: longest prompt plus output, in tokens.
    """

    def __init__(
        self,
        config: EngineConfig,
        source: AdapterSource,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load the model.

        Args:
            config: the settings.
            source: where adapters come from.
            clock: seconds, for `Timings`.

        Raises:
            UnsupportedModelError: the directory holds no model that can be served.
            InvalidConfigError: the settings do not fit the model or the machine.
        """
        self.config = config
        self._clock = clock
        self.model = ModelConfig.from_directory(config.model)
        has_tokenizer = (config.model / "tokenizer.json").exists()
        self.tokenizer = Tokenizer.from_directory(config.model) if has_tokenizer else None
        self._source = source
        self._runner = ModelRunner(config, self.model, source)
        self.max_model_len = self._runner.max_model_len
        self._blocks = BlockManager(
            self._runner.arena.pages, enable_prefix_cache=config.enable_prefix_cache
        )
        self._scheduler = Scheduler(
            self._blocks,
            self._runner.adapters,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
            clock=clock,
        )
        self._structures = Structures(self._open_grammars)
        self._sequences: dict[str, Sequence] = {}
        self._arrivals = itertools.count()
        self._unloading: set[int] = set()
        self._purged: list[Purged] = []
        self._runs_ahead = lookahead.runs_ahead(self._runner.device)
        self._flight: Flight | None = None  # launched, and not read yet
        self._prompt_tokens = self._cached_tokens = self._output_tokens = 0
        self._steps = self._batch_sequences = self._batch_adapters = self._most_batch_adapters = 0

    def add(self, request: Request) -> None:
        """Queue a request. One that asks for a structure gets an output without tokens once that is ready, or is
        refused by its first and last output.

        Raises:
            InvalidRequestError: it can never be served.
        """
        stopwatch = Stopwatch(self._clock())
        self._validate(request)
        detokenizer = None
        if self.tokenizer is not None and request.params.pooling is None:
            params = request.params
            detokenizer = Detokenizer(
                self.tokenizer, request.prompt_ids, params.stop, params.visible_token_ids
            )
        sequence = Sequence(
            request,
            next(self._arrivals),
            detokenizer,
            eos_token_ids=self.model.eos_token_ids,
            max_model_len=self.max_model_len,
            stopwatch=stopwatch,
        )
        self._sequences[request.request_id] = sequence
        if request.params.structure is None:
            self._scheduler.add(sequence)
        else:
            client = request.share.client
            self._structures.ask(request.request_id, request.params.structure, client)

    def abort(self, request_id: str) -> None:
        """End a request without a further output; one that is unknown or ended already is no error."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is not None and not self._structures.forget(request_id):
            self._scheduler.finish(sequence)

    def has_work(self) -> bool:
        """Whether `step` has something to do; a step under way that all its sequences left is nothing."""
        return bool(self._sequences or self._unloading or self._runner.adapters.has_work)

    def step(self) -> list[Output]:
        """Take one step; returns what the step that ended added, one entry per sequence that got a token or ended.

        Running ahead, that is the step launched by the call before, so the first call of several returns nothing.
        """
        adapters = self._runner.adapters
        adapters.poll()
        outputs = self._unload_now() + self._take_structures()
        adapters.keep_waiting(self._scheduler.waiting.wanted)
        self._scheduler.look_at_adapters()
        idle = self._flight is None
        schedule = self._scheduler.schedule(may_preempt=idle)
        if schedule is None:
            # What is preempted is computed again from tokens that the host must know.
            outputs += self._read()
            schedule = self._scheduler.schedule(may_preempt=True)
            assert schedule is not None
        outputs += [self._fail(sequence, error) for sequence, error in schedule.failed]
        if not schedule.batch:
            if idle and not outputs:
                if adapters.loading:
                    adapters.wait(_LOAD_WAIT)
                elif self._structures:
                    self._structures.wait(_LOAD_WAIT)
            return outputs + self._read()
        step = self._runner.launch(schedule.batch, self._blocks.tables)
        self._note_launch(schedule.batch, step)
        outputs += self._read()
        self._flight = self._runner.sample(step)
        if not self._runs_ahead:
            outputs += self._read()
        return outputs

    def unload(self, adapter: int) -> None:
        """Remove an adapter from device memory and its blocks from the prefix cache.

        It happens at the beginning of the next step, in which requests that use the adapter end with an error; then
        `purged` tells what it came to.
        """
        self._unloading.add(adapter)

    def purged(self) -> list[Purged]:
        """Adapters unloaded since the last call."""
        purged, self._purged = self._purged, []
        return purged

    def pin(self, adapter: int, pinned: bool) -> None:
        """Keep an adapter on the device, or let it go again.

        Raises:
            PinRefusedError: pinned adapters would take more than half of the arena.
        """
        self._runner.adapters.pin(adapter, pinned)

    def warm(self, adapters: Iterable[int]) -> None:
        """Bring adapters to the device before anybody asks, in this order, while there is free memory."""
        self._runner.adapters.warm(adapters)

    def adapters(self) -> Iterator[AdapterReport]:
        """What is known about every adapter that is here or was not long ago; steps may be taken in between."""
        return self._runner.adapters.reports()

    def stats(self) -> EngineStats:
        adapters, pages = self._runner.adapters, self._runner.arena.pages
        return EngineStats(
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting) + len(self._structures),
            kv_blocks_total=self._blocks.num_blocks,
            kv_blocks_free=self._blocks.num_free,
            kv_blocks_cached=self._blocks.num_cached,
            pages_total=pages.num_pages,
            pages_free=pages.num_free,
            kv_pages=self._blocks.num_pages,
            adapter_pages=adapters.num_pages,
            idle_adapter_pages=adapters.idle_pages,
            adapters_resident=adapters.resident,
            adapter_loads=adapters.loads,
            adapter_evictions=adapters.evictions,
            adapter_failures=adapters.failures,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            output_tokens=self._output_tokens,
            preemptions=self._scheduler.num_preemptions,
            steps=self._steps,
            batch_sequences=self._batch_sequences,
            batch_adapters=self._batch_adapters,
            most_batch_adapters=self._most_batch_adapters,
        )

    def check_integrity(self) -> None:
        """Assert that no page, block or slot leaked; cheap enough for tests, too slow for every step."""
        running = list(self._scheduler.running)
        pages = self._blocks.check_integrity(running)
        self._runner.adapters.check_integrity(self._scheduler.users(), pages)

    def _validate(self, request: Request) -> None:
        params, prompt = request.params, request.prompt_ids
        if request.request_id in self._sequences:
            raise InvalidRequestError(f"request id {request.request_id!r} is in use.")
        if not prompt:
            raise InvalidRequestError("The prompt is empty.", "prompt")
        if not all(0 <= token < self.model.vocab_size for token in prompt):
            raise InvalidRequestError(
                f"The prompt holds a token id outside 0 to {self.model.vocab_size - 1}.", "prompt"
            )
        for name, ids in (
            ("logit_bias", params.logit_bias),
            ("stop_token_ids", params.stop_token_ids),
        ):
            if not all(0 <= token < self.model.vocab_size for token in ids):
                raise InvalidRequestError(
                    f"{name} names a token id outside 0 to {self.model.vocab_size - 1}.", name
                )
        if params.stop and self.tokenizer is None:
            raise InvalidRequestError("Stop strings need a model with a tokenizer.", "stop")
        if params.structure is not None and self.tokenizer is None:
            raise InvalidRequestError("A structure needs a model with a tokenizer.", "structure")
        answer = 1 if params.max_tokens is None else params.max_tokens
        wanted = len(prompt) + answer
        if wanted > self.max_model_len:
            raise InvalidRequestError(
                f"This model's context length is {self.max_model_len} tokens; the request asks for "
                f"{len(prompt)} in the prompt and {answer} in the output.",
                "prompt" if len(prompt) + bool(answer) > self.max_model_len else "max_tokens",
                "context_length_exceeded",
            )
        if not self._runner.adapters.fits(request.adapter, wanted):
            raise InvalidRequestError(NEVER_FITS, "max_tokens")

    def _read(self) -> list[Output]:
        """Take over the results of the step under way, if there is one."""
        flight, self._flight = self._flight, None
        if flight is None:
            return []
        outputs: list[Output] = []
        results = flight.read()
        now = self._clock()
        for sequence, vector in () if flight.vectors is None else flight.vectors.read():
            if sequence.running:
                outputs.append(self._end(sequence, embedded(sequence, vector), now))
        for sequence, choice in results:
            if not sequence.running:  # it ended after the launch: its row is dropped
                continue
            sequence.pending -= 1
            if len(sequence.tokens) % BLOCK_SIZE == 0:
                self._blocks.publish(sequence)
            output = advance(sequence, choice)
            if output.token_ids:
                self._output_tokens += 1
                assert sequence.account is not None
                sequence.account.charge(OUTPUT_COST)
                if output.output_tokens == 1:
                    sequence.stopwatch.first_token(now)
            if output.finish_reason is not None:
                output = self._end(sequence, output, now)
            outputs.append(output)
        return outputs

    def _end(self, sequence: Sequence, last: Output, now: float) -> Output:
        """Take a sequence out; returns its last output with what is known only now."""
        del self._sequences[sequence.request.request_id]
        timings = sequence.stopwatch.timings(now)
        if not self._structures.forget(sequence.request.request_id):
            self._scheduler.finish(sequence)
        return last._replace(timings=timings)

    def _fail(self, sequence: Sequence, error: str) -> Output:
        return self._end(sequence, failure(sequence, error), self._clock())

    def _open_grammars(self) -> TriedLibrary:
        assert self.tokenizer is not None
        pieces = self.tokenizer.pieces(self.model.vocab_size)
        takes_grammars = self.config.user_grammars
        return TriedLibrary(pieces, self.model.eos_token_ids, takes_grammars=takes_grammars)

    def _take_structures(self) -> list[Output]:
        """Queue the requests whose structures have become ready; tell which have, and which are refused."""
        outputs: list[Output] = []
        for request_id, matcher, error in self._structures.ready():
            sequence = self._sequences[request_id]
            if matcher is None:
                del self._sequences[request_id]
                outputs.append(failure(sequence, error or "", FinishReason.REFUSED))
                continue
            sequence.matcher = matcher
            sequence.arrival = next(self._arrivals)
            self._scheduler.add(sequence)
            outputs.append(nothing_yet(sequence))
        return outputs

    def _unload_now(self) -> list[Output]:
        outputs: list[Output] = []
        for adapter in self._unloading:
            users = [s for s in self._sequences.values() if s.request.adapter == adapter]
            outputs += [
                self._fail(s, "The adapter was deleted while it was in use.") for s in users
            ]
            blocks = self._blocks.purge(adapter)
            pages, host = self._runner.adapters.unload(adapter)
            self._purged.append(Purged(adapter, pages, blocks, host))
        self._unloading.clear()
        return outputs

    def _note_launch(self, batch: list[Scheduled], step: Launched) -> None:
        self._steps += 1
        self._batch_sequences = len(batch)
        self._batch_adapters = step.num_adapters
        self._most_batch_adapters = max(self._most_batch_adapters, step.num_adapters)
        for sequence, num_tokens in batch:
            sequence.num_computed += num_tokens
            if not sequence.counted:
                sequence.counted = True
                self._prompt_tokens += sequence.num_prompt
                self._cached_tokens += sequence.cached_tokens or 0
                if sequence.request.adapter is not None:
                    self._runner.adapters.note_use(sequence.request.adapter)
        for sequence in () if step.vectors is None else step.vectors.sequences:
            sequence.pending += 1  # the vector stands for a last token
        for row, sequence in enumerate(step.sequences):
            sequence.pending += 1
            sequence.sampled_row = row

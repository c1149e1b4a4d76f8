"""Running one step ahead changes when results are read, and nothing else: same tokens, same ends, same books, whatever
happens to a sequence while a step with it is under way."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from loraplex.engine import lookahead
from loraplex.engine.config import EngineConfig
from loraplex.engine.engine import Engine
from loraplex.engine.lora import LoadResult, LoRAWeights
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.request import FinishReason, Output, Request, TokenLogprob
from loraplex.engine.sampling_params import SamplingParams
from support.checkpoints import EOS_ID, tiny_model
from support.rank_one import rank_one
from support.small_arena import bytes_of, small_pages

ADAPTERS = 3
GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)


class Source:
    """Answers every request for an adapter at the next collection."""

    def __init__(self, weights: dict[int, LoRAWeights]) -> None:
        self.weights = weights
        self._wanted: list[int] = []

    def request(self, handle: int) -> None:
        self._wanted.append(handle)

    def collect(self) -> list[LoadResult]:
        wanted, self._wanted = self._wanted, []
        return [LoadResult(handle, self.weights[handle], None) for handle in wanted]

    def release(self, handle: int) -> None:
        pass

    def wait(self, timeout: float) -> None:
        pass


@dataclass
class Answer:
    """What one request got."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    text: str = ""
    reason: FinishReason | None = None

    def take(self, output: Output) -> None:
        assert self.reason is None, "output after the last one"
        self.tokens += output.token_ids
        self.logprobs += output.logprobs or ()
        self.text += output.text
        self.reason = output.finish_reason
        if self.reason is not FinishReason.ERROR:
            assert output.output_tokens == len(self.tokens)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lookahead") / "model"
    return tiny_model(path, layers=1, hidden=32, intermediate=48)


class Harness:
    """An engine that runs ahead or not, and the answers of its requests."""

    def __init__(self, model_dir: Path, *, ahead: bool, pages: int = 136, **settings: int) -> None:
        model = ModelConfig.from_directory(model_dir)
        with pytest.MonkeyPatch.context() as patch:
            small_pages(patch)
            weights = {handle: rank_one(0.1 + 0.1 * handle, model) for handle in range(ADAPTERS)}
            weights[ADAPTERS] = rank_one(float("nan"), model)
            patch.setattr(lookahead, "runs_ahead", lambda _: ahead)
            memory = bytes_of(pages, model_dir)
            config = EngineConfig(model=model_dir, device="cpu", arena_bytes=memory, **settings)  # type: ignore[arg-type]  # options by name
            self.engine = Engine(config, Source(weights))
        self.answers: dict[str, Answer] = {}

    def add(self, request: Request) -> None:
        self.answers[request.request_id] = Answer()
        self.engine.add(request)

    def step(self) -> None:
        for output in self.engine.step():
            self.answers[output.request_id].take(output)
        self.engine.check_integrity()

    def drain(self) -> None:
        for _ in range(2000):
            if not self.engine.has_work():
                break
            self.step()
        else:
            pytest.fail("the engine did not come to an end")
        stats = self.engine.stats()
        assert (stats.running, stats.waiting) == (0, 0)
        assert stats.kv_blocks_free == stats.kv_blocks_total


def random_request(rng: random.Random, number: int) -> Request:
    length = rng.choice((1, 2, 15, 16, 17, rng.randint(20, 60)))
    # Few distinct beginnings, so that the prefix cache has something to do.
    prompt = [rng.randrange(3)] * min(length, 16) + [rng.randrange(250) for _ in range(length - 16)]
    sampled = rng.random() < 0.5
    params = SamplingParams(
        temperature=rng.choice((0.7, 1.3)) if sampled else 0.0,
        top_p=rng.choice((1.0, 0.9)),
        seed=rng.randrange(1000),
        max_tokens=rng.choice((1, 2, 3, 10, 20, None)),
        min_tokens=rng.choice((0, 1)),
        repetition_penalty=rng.choice((1.0, 1.3)),
        presence_penalty=rng.choice((0.0, 0.6)),
        frequency_penalty=rng.choice((0.0, 0.3)),
        logit_bias={EOS_ID: rng.choice((0.0, 3.0))},
        stop=rng.choice(((), ("a",), ("e", "zz"))),
        stop_token_ids=rng.choice(((), (65, 66, 67, 68))),
        ignore_eos=rng.random() < 0.5,
        logprobs=rng.choice((None, 0, 2)),
    )
    adapter = rng.choice((None, *range(ADAPTERS), ADAPTERS if rng.random() < 0.3 else None))
    return Request(str(number), tuple(prompt), params, adapter, priority=rng.choice((0, 0, 1)))


def assert_equal(answer: Answer, other: Answer) -> None:
    assert answer.reason is not None
    assert (answer.tokens, answer.reason, answer.text) == (other.tokens, other.reason, other.text)
    assert len(answer.logprobs) == len(other.logprobs)
    for one, two in zip(answer.logprobs, other.logprobs, strict=True):
        assert one.token_id == two.token_id
        # Batches differ, and with them the last bits of sums.
        assert one.logprob == pytest.approx(two.logprob, abs=1e-4)
        assert [i for i, _ in one.top] == [i for i, _ in two.top]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pages": 8},
        {"max_num_seqs": 3, "max_num_batched_tokens": 7},
        {"pages": 6},
    ],
    ids=["roomy", "few pages", "small steps", "room for one sequence and its adapter"],
)
@pytest.mark.parametrize("seed", range(2))
def test_random_operations_give_the_same_answers(
    model_dir: Path, settings: dict[str, int], seed: int
) -> None:
    """Both engines get the same requests. What an aborted or unloaded one got must agree as far as both went."""
    harnesses = [
        Harness(model_dir, ahead=ahead, max_model_len=80, **settings) for ahead in (False, True)
    ]
    rng = random.Random(seed)
    cut_short: set[str] = set()
    for number in range(16):
        request = random_request(rng, number)
        steps, abort, unload = rng.choice((0, 1, 1, 2, 5)), rng.random() < 0.2, rng.random() < 0.1
        picked = rng.randrange(number + 1)
        for harness in harnesses:
            harness.add(request)
            for _ in range(steps):
                harness.step()
        if abort:
            cut_short.add(str(picked))
            for harness in harnesses:
                harness.engine.abort(str(picked))
                harness.engine.check_integrity()
        if unload and request.adapter is not None:
            cut_short |= {
                name
                for harness in harnesses
                for name, sequence in harness.engine._sequences.items()
                if sequence.request.adapter == request.adapter
            }
            for harness in harnesses:
                harness.engine.unload(request.adapter)
    for harness in harnesses:
        harness.drain()
    in_turn, ahead = (harness.answers for harness in harnesses)
    for name, answer in in_turn.items():
        if name in cut_short:
            length = min(len(answer.tokens), len(ahead[name].tokens))
            assert answer.tokens[:length] == ahead[name].tokens[:length]
        else:
            assert_equal(answer, ahead[name])
    assert len(in_turn) - len(cut_short) > 5


def test_a_step_is_under_way_between_calls(model_dir: Path) -> None:
    harness = Harness(model_dir, ahead=True)
    harness.add(Request("r", (1, 2, 3), GREEDY))
    harness.step()
    assert harness.answers["r"].tokens == []
    assert harness.engine.stats().steps == 1
    harness.step()
    assert len(harness.answers["r"].tokens) == 1
    assert harness.engine.stats().steps == 2


def test_known_ends_waste_no_step(model_dir: Path) -> None:
    """The last token of `max_tokens` or of the context is known to be the last before it is read."""
    for settings, params in (
        ({}, GREEDY),
        ({"max_model_len": 15}, SamplingParams(temperature=0, max_tokens=None, ignore_eos=True)),
    ):
        harness = Harness(model_dir, ahead=True, **settings)
        harness.add(Request("r", (1, 2, 3), params))
        harness.drain()
        assert len(harness.answers["r"].tokens) == 12
        assert harness.engine.stats().steps == 12


def test_surprising_end_drops_the_row_launched_meanwhile(model_dir: Path) -> None:
    harness = Harness(model_dir, ahead=True)
    ends = SamplingParams(temperature=0, max_tokens=30, logit_bias={EOS_ID: 100.0})
    harness.add(Request("ends", (1, 2, 3), ends))
    harness.add(Request("goes on", (1, 2, 3), GREEDY))
    harness.drain()
    assert harness.answers["ends"].tokens == [EOS_ID]
    assert harness.answers["ends"].reason is FinishReason.STOP
    assert len(harness.answers["goes on"].tokens) == 12
    assert harness.engine.stats().output_tokens == 13


def test_bad_values_end_a_sequence_alone_though_it_was_launched_again(model_dir: Path) -> None:
    harness = Harness(model_dir, ahead=True)
    harness.add(Request("bad", (1, 2, 3), GREEDY, adapter=ADAPTERS))
    harness.add(Request("good", (1, 2, 3), GREEDY))
    harness.drain()
    assert harness.answers["bad"].reason is FinishReason.ERROR
    assert harness.answers["bad"].tokens == []
    assert len(harness.answers["good"].tokens) == 12


def test_blocks_of_an_aborted_sequence_serve_the_next_at_once(model_dir: Path) -> None:
    """All of the cache belongs to a sequence that is aborted while it is computed; the next one needs all of it."""
    alone = Harness(model_dir, ahead=False, pages=4, max_model_len=64)
    request = Request("next", tuple(range(100, 150)), GREEDY)
    alone.add(request)
    alone.drain()
    harness = Harness(model_dir, ahead=True, pages=4, max_model_len=64)
    harness.add(Request("aborted", tuple(range(50)), GREEDY))
    for _ in range(3):
        harness.step()
    harness.engine.abort("aborted")
    assert harness.engine.stats().kv_blocks_free == 4
    assert not harness.engine.has_work()
    harness.add(request)
    harness.drain()
    assert harness.answers["next"].tokens == alone.answers["next"].tokens


def test_request_id_of_an_aborted_sequence_is_free_for_another(model_dir: Path) -> None:
    """A token of the first, still under way, must not reach the second."""
    harness = Harness(model_dir, ahead=True)
    harness.add(Request("r", (1, 2, 3), GREEDY))
    harness.step()
    harness.engine.abort("r")
    harness.add(Request("r", (7, 8, 9, 10), GREEDY))
    harness.drain()
    alone = Harness(model_dir, ahead=False)
    alone.add(Request("r", (7, 8, 9, 10), GREEDY))
    alone.drain()
    assert harness.answers["r"].tokens == alone.answers["r"].tokens


def test_unload_while_a_step_with_the_adapter_is_under_way(model_dir: Path) -> None:
    harness = Harness(model_dir, ahead=True)
    harness.add(Request("user", (1, 2, 3), GREEDY, adapter=1))
    harness.add(Request("other", (1, 2, 3), GREEDY, adapter=0))
    for _ in range(4):
        harness.step()
    harness.engine.unload(1)
    harness.drain()
    assert harness.answers["user"].reason is FinishReason.ERROR
    assert 0 < len(harness.answers["user"].tokens) < 12
    assert harness.answers["other"].reason is FinishReason.LENGTH
    assert harness.engine.stats().adapters_resident == 1

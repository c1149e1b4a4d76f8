"""Structures in the engine: whatever runs beside them, one step ahead or not, the text is of the grammar, and rows that
are free get the tokens they would get without."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from loraplex.adapters.offline import LLM, GenerationError
from loraplex.engine.config import EngineConfig
from loraplex.engine.engine import Engine
from loraplex.engine.lora import LoadResult
from loraplex.engine.request import FinishReason, InvalidRequestError, Request
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.structure import Kind, Structure
from loraplex.engine.structured import xgrammar_library
from loraplex.engine.structured.xgrammar_library import XGrammar, XGrammarFiller, XGrammarLibrary
from loraplex.engine.tokenizer import Tokenizer
from support.checkpoints import EOS_ID, tiny_model
from support.patience import PATIENCE_SECONDS
from support.small_arena import bytes_of, small_pages

WORD = Structure("regex", "<[a-f]{3,40}>")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("structured") / "model"
    return tiny_model(path, layers=1, hidden=32, intermediate=48)


@pytest.fixture
def llm(model_dir: Path, ahead: bool) -> LLM:
    del ahead
    return LLM(model_dir, device="cpu", arena_bytes=16 << 20, max_num_seqs=16)


@pytest.fixture(scope="module")
def shared(model_dir: Path) -> LLM:
    return LLM(model_dir, device="cpu", arena_bytes=8 << 20, max_num_seqs=4)


class NoAdapters:
    """An `AdapterSource` nobody asks."""

    def request(self, handle: int) -> None:
        raise AssertionError(handle)

    def collect(self) -> list[LoadResult]:
        return []

    def release(self, handle: int) -> None:
        pass

    def wait(self, timeout: float) -> None:
        pass


def ids(model_dir: Path, text: str) -> list[int]:
    return Tokenizer.from_directory(model_dir).encode(text, add_special_tokens=False)


def test_free_rows_get_the_same_tokens(llm: LLM) -> None:
    free = [SamplingParams(seed=i, max_tokens=20, temperature=i % 2, logprobs=2) for i in range(4)]
    held = [SamplingParams(seed=i, max_tokens=60, structure=WORD, top_p=0.9) for i in range(3)]
    prompts = [f"prompt {i}" for i in range(7)]
    alone = llm.generate(prompts[:4], free)
    mixed = llm.generate(prompts, [*free, *held])
    assert [each.token_ids for each in mixed[:4]] == [each.token_ids for each in alone]
    again = llm.generate(prompts[4:], held)
    for first, second in zip(mixed[4:], again, strict=True):
        assert first.token_ids == second.token_ids  # a seed decides, whatever the neighbours
        assert first.text[0] + first.text[-1] == "<>"
        assert first.finish_reason == "stop"
    assert len({each.text for each in again}) == 3


def test_it_ends_by_itself_where_nothing_may_follow(llm: LLM, model_dir: Path) -> None:
    params = SamplingParams(max_tokens=9, structure=Structure("choice", '["Yes.", "No!"]'))
    for given in (
        params,
        SamplingParams(max_tokens=9, min_tokens=9, ignore_eos=True, structure=params.structure),
    ):
        (done,) = llm.generate("x", given)
        assert done.text in ("Yes.", "No!")
        assert done.finish_reason == "stop"
        assert done.token_ids == ids(model_dir, done.text)  # not even the token of the end
    (exact,) = llm.generate("x", SamplingParams(max_tokens=1, structure=Structure("regex", "a")))
    assert (exact.text, exact.finish_reason) == ("a", "stop")


def test_an_end_is_chosen_only_where_the_text_may_end(llm: LLM) -> None:
    likely = {EOS_ID: 100.0}
    structure = Structure("regex", "ab(cd)*")
    (done,) = llm.generate("x", SamplingParams(logit_bias=likely, structure=structure))
    assert (done.text, done.finish_reason, done.token_ids[-1]) == ("ab", "stop", EOS_ID)
    (longer,) = llm.generate(
        "x", SamplingParams(logit_bias=likely, min_tokens=5, structure=structure)
    )
    assert longer.text == "abcdcd"
    (endless,) = llm.generate(
        "x", SamplingParams(logit_bias=likely, ignore_eos=True, max_tokens=8, structure=structure)
    )
    assert (endless.text, endless.finish_reason) == ("abcdcdcd", "length")


def test_stop_strings_cut_it_off(llm: LLM) -> None:
    params = SamplingParams(stop=("23",), structure=Structure("regex", "12345"))
    (done,) = llm.generate("x", params)
    assert (done.text, done.finish_reason) == ("1", "stop")


def test_logprobs_are_those_of_the_model(llm: LLM) -> None:
    free = SamplingParams(temperature=0, max_tokens=1, logprobs=20)
    held = SamplingParams(temperature=0, logprobs=20, structure=Structure("regex", "[xyz]"))
    (one,), (other,) = llm.generate("abc", free), llm.generate("abc", held)
    assert one.logprobs is not None
    assert other.logprobs is not None
    assert other.logprobs[0].top == one.logprobs[0].top


@pytest.mark.parametrize(
    ("kind", "source", "error"),
    [
        ("grammar", "root ::= ", "refused"),
        ("grammar", "root ::= root", "no text"),
        ("grammar", 'root ::= "" | ""', "only the empty text"),
        ("grammar", "x" * 70_000, "64 KiB"),
        ("grammar", "root ::= " + "(" * 5_000, "refused"),
        ("regex", "(" * 100 + ")" * 100, "32 brackets"),
        ("regex", "(a{9999}){9999}", "10000 times"),
        ("regex", "a" * 5_000, "4096 characters"),
        ("json_schema", "{" * 5_000, "not readable"),
        ("json_schema", '{"items":' * 50 + "{}" + "}" * 50, "32 schemas"),
        ("json_schema", '{"allOf": [{"$ref": "#"}]}', "the empty text|no text|32 schemas"),
        ("json_schema", '{"maxLength": 1e9}', "100000"),
        ("json_schema", json.dumps({"enum": ["x" * 300_000]}), "256 KiB"),
        ("structural_tag", "{}", "refused"),
    ],
)
def test_hostile_structures_are_refused_in_a_sentence(
    shared: LLM, kind: Kind, source: str, error: str
) -> None:
    llm = shared
    with pytest.raises(InvalidRequestError, match=error) as refused:
        llm.generate("x", SamplingParams(structure=Structure(kind, source)))
    assert len(str(refused.value)) < 500
    goes_on = SamplingParams(max_tokens=2, ignore_eos=True)
    assert llm.generate("x", goes_on)[0].finish_reason == "length"


def test_what_no_token_can_spell_fails_alone(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model", layers=1, hidden=32, intermediate=48, vocab_size=100)
    llm = LLM(model, device="cpu", arena_bytes=8 << 20, max_num_seqs=4)
    spelled = Tokenizer.from_directory(model).pieces(100)
    assert b"\xc3" not in spelled
    with pytest.raises(GenerationError, match="No token of this model"):
        llm.generate([[1, 2]], SamplingParams(structure=Structure("regex", "A\u00e9")))


def test_what_takes_too_long_to_follow_ends_alone(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = LLM(model_dir, device="cpu", arena_bytes=8 << 20, max_num_seqs=4)
    held = SamplingParams(max_tokens=9, structure=WORD)
    assert llm.generate("x", held)[0].text  # the grammar is ready, and was quick so far
    monkeypatch.setattr(xgrammar_library, "_SLOW_MOVE", -1.0)
    monkeypatch.setattr(xgrammar_library, "_SLOW_IN_ALL", -1.0)
    with pytest.raises(GenerationError, match="too long to follow"):
        llm.generate("x", held)
    with pytest.raises(InvalidRequestError, match="too long to follow"):
        llm.generate("x", SamplingParams(structure=Structure("regex", "ab+")))
    monkeypatch.undo()
    assert llm.generate("x", held)[0].text


def test_the_slow_one_of_a_batch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xgrammar_library, "_SLOW_MOVE", -1.0)
    library = XGrammarLibrary([b"a", b"b", b""], (2,))
    matchers = [library.compile(Structure("regex", "a+")).matcher() for _ in range(12)]
    masks = np.zeros((12, 1), dtype=np.int32)
    filler = XGrammarFiller()
    filler.fill(matchers, masks)
    together = masks.copy()
    monkeypatch.setattr(xgrammar_library, "_SLOW_IN_ALL", 0.0)
    filler.fill(matchers, masks)  # one by one, as the batch took longer than nothing
    assert (masks == together).all()
    assert all(matcher.too_slow() for matcher in matchers)


def test_others_go_on_while_a_grammar_is_compiled_and_preemption_keeps_its_place(
    model_dir: Path, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    del ahead
    small_pages(monkeypatch)
    go = threading.Event()
    compile_at_once = XGrammarLibrary.compile

    def compile_later(library: XGrammarLibrary, structure: Structure) -> XGrammar:
        assert go.wait(PATIENCE_SECONDS)
        return compile_at_once(library, structure)

    monkeypatch.setattr(XGrammarLibrary, "compile", compile_later)
    config = EngineConfig(
        model=model_dir,
        device="cpu",
        arena_bytes=bytes_of(24, model_dir),
        enable_prefix_cache=False,
    )
    engine = Engine(config, NoAdapters())
    texts: dict[str, str] = {}
    reasons: dict[str, FinishReason | None] = {}

    def step() -> None:
        for output in engine.step():
            texts[output.request_id] = texts.get(output.request_id, "") + output.text
            reasons[output.request_id] = output.finish_reason

    structure = Structure("regex", "([a-z]{4}-){30}")
    for i in range(4):
        params = SamplingParams(max_tokens=200, seed=i, structure=structure)
        engine.add(Request(str(i), (i + 1, 2, 3), params))
    engine.add(Request("free", (1, 2, 3), SamplingParams(max_tokens=40, ignore_eos=True)))
    while reasons.get("free") is None:
        step()
    assert reasons == {"free": FinishReason.LENGTH}
    assert engine.stats().waiting == 4
    engine.abort("3")
    go.set()
    while engine.has_work():
        step()
    engine.check_integrity()
    assert engine.stats().preemptions > 0
    for name in "012":
        assert reasons.pop(name) is FinishReason.STOP
        assert [len(part) for part in texts[name].split("-")] == [4] * 30 + [0]
    assert reasons == {"free": FinishReason.LENGTH}

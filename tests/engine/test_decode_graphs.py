"""What captured steps read from their buffers makes the same step as tensors made for it. Without a GPU nothing can be
captured; there a replay is replaced by running, through the interpreter, what the graph would have recorded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loraplex.engine import lookahead
from loraplex.engine.config import EngineConfig
from loraplex.engine.cuda_graphs import DecodeGraphs
from loraplex.engine.engine import Engine
from loraplex.engine.lora import LoadResult
from loraplex.engine.piece_graphs import Pair, PieceGraphs
from loraplex.engine.request import Request
from loraplex.engine.sampling_params import SamplingParams
from loraplex.kernels import dispatch
from support.checkpoints import tiny_model
from support.rank_one import rank_one

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="every engine test replays graphs on a GPU"
)
BUCKETS = (2, 4)
PIECE_BUCKETS = (4, 12, 20)


class Recorded:
    """Stands for a captured graph."""

    def __init__(self, run: Callable[[], None]) -> None:
        self.replay = run


class Source:
    """Makes adapters of rank one for the engine it belongs to."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self._wanted: list[int] = []

    def request(self, handle: int) -> None:
        self._wanted.append(handle)

    def collect(self) -> list[LoadResult]:
        assert self.engine is not None
        wanted, self._wanted = self._wanted, []
        return [LoadResult(h, rank_one(0.3 * h + 0.3, self.engine.model), None) for h in wanted]

    def release(self, handle: int) -> None:
        pass

    def wait(self, timeout: float) -> None:
        pass


def recorded_graphs(engine: Engine) -> DecodeGraphs:
    runner = engine._runner
    graphs = DecodeGraphs(
        runner._decoder, runner._kv_cache, runner._last_ids, max_num_seqs=BUCKETS[-1], max_blocks=8
    )
    graphs._buckets = list(BUCKETS)
    logits = graphs._logits
    for bucket in BUCKETS:
        for with_lora in (True, False):
            batch = graphs._inputs.batch(bucket, with_lora=with_lora)

            def run(batch: Any = batch, bucket: int = bucket) -> None:
                logits[:bucket] = graphs._run(batch)

            graphs._graphs[bucket, with_lora] = Recorded(run)  # type: ignore[assignment]  # a stand-in
    return graphs


def recorded_pieces(engine: Engine) -> PieceGraphs:
    """A piece that is replayed leaves its results where those of its recording were."""

    def record(launch: Callable[[], Pair]) -> Any:
        results = launch()

        def replay() -> None:
            for old, new in zip(results, launch(), strict=True):
                old.copy_(new)

        return Recorded(replay), results

    runner = engine._runner
    pieces = PieceGraphs(
        runner._decoder,
        runner._kv_cache,
        runner._last_ids,
        max_tokens=PIECE_BUCKETS[-1],
        record=record,
    )
    pieces._buckets = list(PIECE_BUCKETS)
    return pieces


def answers(model_dir: Path, *, with_graphs: bool) -> tuple[dict[str, list[int]], int, int]:
    source = Source()
    config = EngineConfig(
        model=model_dir,
        device="cpu",
        max_num_seqs=4,
        max_num_batched_tokens=PIECE_BUCKETS[-1] + 2,
        arena_bytes=2**24,
    )
    engine = source.engine = Engine(config, source)
    replayed = replayed_pieces = 0
    if with_graphs:
        pieces = engine._runner._pieces = recorded_pieces(engine)
        hidden = pieces.hidden

        def counted_pieces(host: Any, max_rank: int) -> Any:
            nonlocal replayed_pieces
            replayed_pieces += 1
            return hidden(host, max_rank)

        pieces.hidden = counted_pieces  # type: ignore[method-assign]  # counts replays
        graphs = engine._runner._graphs = recorded_graphs(engine)
        forward = graphs.forward

        def counted(host: Any) -> torch.Tensor:
            nonlocal replayed
            replayed += 1
            return forward(host)

        graphs.forward = counted  # type: ignore[method-assign]  # counts replays
    for number, (length, adapter) in enumerate([(3, None), (9, 1), (1, 0), (15, 1), (5, None)]):
        params = SamplingParams(temperature=0, max_tokens=4 + number % 3, ignore_eos=True)
        prompt = tuple(range(number + 1, number + 1 + length))
        engine.add(Request(str(number), prompt, params, adapter))
    tokens: dict[str, list[int]] = {}
    while engine.has_work():
        for output in engine.step():
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
        engine.check_integrity()
    return tokens, replayed, replayed_pieces


def test_replayed_steps_answer_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_dir = tiny_model(tmp_path, layers=2, hidden=32, intermediate=48, heads=2, kv_heads=1)
    expected, _, _ = answers(model_dir, with_graphs=False)
    empty = torch.empty
    monkeypatch.setattr(dispatch, "use_triton", lambda _: True)
    monkeypatch.setattr(lookahead, "runs_ahead", lambda _: True)
    # There is nothing to pin memory for.
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **o: empty(*size, **o))
    got, replayed, replayed_pieces = answers(model_dir, with_graphs=True)
    assert got == expected
    assert replayed > 4
    assert replayed_pieces > 1
    assert len({tuple(tokens[:3]) for tokens in expected.values()}) > 3

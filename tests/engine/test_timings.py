"""Every answer says where its time went, to the last tick."""

from pathlib import Path

import pytest

from loraplex.engine.config import EngineConfig
from loraplex.engine.engine import Engine
from loraplex.engine.lora import LoadResult
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.request import Output, Request
from loraplex.engine.sampling_params import SamplingParams
from support.checkpoints import tiny_model
from support.rank_one import rank_one

pytestmark = pytest.mark.usefixtures("ahead")


class LateSource:
    """Brings adapter 0 when it is told to, and nothing else."""

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self._asked: list[int] = []
        self.late = True

    def request(self, handle: int) -> None:
        self._asked.append(handle)

    def collect(self) -> list[LoadResult]:
        if self.late:
            return []
        asked, self._asked = self._asked, []
        return [
            LoadResult(handle, rank_one(0.01, self._model), None)
            if handle == 0
            else LoadResult(handle, None, "The adapter vanished.")
            for handle in asked
        ]

    def release(self, handle: int) -> None:
        pass

    def wait(self, timeout: float) -> None:
        pass


def test_times_add_up(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "model", layers=1, hidden=32, intermediate=48)
    source, now = LateSource(ModelConfig.from_directory(path)), [100.0]
    config = EngineConfig(model=path, device="cpu", max_num_seqs=2)
    engine = Engine(config, source, clock=lambda: now[0])
    last: dict[str, Output] = {}
    started: dict[str, float] = {}
    ended: dict[str, float] = {}

    def add(name: str, adapter: int | None = None, tokens: int = 5) -> None:
        started[name] = now[0]
        params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
        engine.add(Request(name, (1, 2, 3), params, adapter))

    def step() -> None:
        now[0] += 1
        for output in engine.step():
            if output.finish_reason is not None:
                last[output.request_id] = output
                ended[output.request_id] = now[0]
            else:
                assert output.timings is None

    add("cold", 0)
    add("fails", 1)
    add("runs")
    for _ in range(10):
        step()
    for name in ("first", "second", "waits"):
        add(name, tokens=20)
    source.late = False
    while engine.has_work():
        step()
    for name, output in last.items():
        timings = output.timings
        assert timings is not None
        assert sum(timings[:4]) == ended[name] - started[name]
        assert timings.evicted_by is None
    of = {name: output.timings for name, output in last.items() if output.timings is not None}
    assert of["cold"].load == 11
    assert of["fails"].prefill == of["fails"].decode == 0
    assert of["fails"].load + of["fails"].queue == ended["fails"] - started["fails"] > 10
    assert of["runs"].queue == 1
    assert of["runs"].decode == 4
    assert of["waits"].queue > 10
    assert of["waits"].load == 0

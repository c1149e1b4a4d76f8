"""The request sets are those of the papers: against values from their own generators."""

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
workloads = importlib.import_module("serving_workloads")


@pytest.mark.parametrize(
    ("requests", "uniform", "skewed"),
    [
        (8, [3, 3, 2], [3, 2, 1, 1, 1]),
        (16, [4] * 4, [5, 4, 3, 2, 1, 1]),
        (32, [6, 6, 5, 5, 5, 5], [11, 7, 5, 3, 2, 2, 1, 1]),
        (64, [8] * 8, [17, 17, 11, 7, 5, 3, 2, 1, 1]),
        (1024, [32] * 32, [291, 194, 157, 129, 86, 57, 38, 25, 17, 11, 7, 5, 3, 2, 1, 1]),
    ],
)
def test_punica_popularities(requests: int, uniform: list[int], skewed: list[int]) -> None:
    assert workloads.group_sizes("uniform", requests) == uniform
    assert workloads.group_sizes("skewed", requests) == skewed
    assert workloads.group_sizes("distinct", requests) == [1] * requests
    assert workloads.group_sizes("identical", requests) == [requests]


def test_punica_request_set() -> None:
    items = workloads.punica("skewed", 1024)
    prompts, outputs = [i.prompt for i in items], [i.output for i in items]
    assert (sum(prompts), sum(outputs)) == (24_190, 1_009_565)
    assert prompts[:5] == [24, 42, 8, 27, 3]
    assert outputs[:5] == [45, 1293, 936, 1796, 1502]
    counts = [sum(i.adapter == a for i in items) for a in range(16)]
    assert counts == workloads.group_sizes("skewed", 1024)
    assert [i.adapter for i in items] != sorted(i.adapter for i in items)


def test_slora_trace() -> None:
    items = workloads.slora(5, alpha=1, rate=10, cv=1, seconds=120)
    assert len(items) == 1200
    assert (sum(i.prompt for i in items), sum(i.output for i in items)) == (314_805, 315_809)
    assert [i.prompt for i in items[:5]] == [388, 467, 14, 36, 402]
    assert [i.output for i in items[:5]] == [268, 357, 509, 359, 15]
    assert [i.adapter for i in items[:10]] == [1, 4, 3, 2, 0, 0, 0, 4, 3, 3]
    assert [round(i.at, 5) for i in items[:3]] == [0.05032, 0.08790, 0.10380]
    assert round(items[-1].at, 3) == 124.987


def test_slora_popularity_and_length() -> None:
    many = workloads.slora(1000, alpha=1, rate=10, cv=1, seconds=120)
    assert [i.adapter for i in many[:5]] == [374, 950, 731, 598, 156]
    assert len({i.adapter for i in many}) == 704
    longer = workloads.slora(200, alpha=0.1, rate=10, cv=1, seconds=300)
    assert (sum(i.prompt for i in longer), sum(i.output for i in longer)) == (796_559, 758_010)
    top = sum(i.adapter < 20 for i in longer) / len(longer)
    assert 0.77 < top < 0.83
    assert {i.adapter for i in workloads.slora(0, 1, 6, 1, 300)} == {0}

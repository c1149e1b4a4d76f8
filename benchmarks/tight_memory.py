"""Owns the sections `cliff` and `starvation` of residency.py: more adapters than the arena has room for."""

import statistics
from collections.abc import Sequence

from engine_runs import load_adapters
from residency_setting import RANK, Setting
from serving_workloads import Item
from timed_runs import peak_blocks, poisson, run_timed

from loraplex.platform.bench.report import percentile


def cliff(setting: Setting) -> None:
    plan = setting.plan
    source = setting.source((RANK,))
    few, many = list(range(8)), list(range(16))

    def trace(adapters: Sequence[int], seed: int = 0) -> list[Item]:
        lengths = (plan.cliff_prompt, plan.cliff_output)
        return poisson(plan.cliff_requests, plan.cliff_rate, adapters, *lengths, seed)

    engine = setting.engine(source, None, plan.cliff_prompt + plan.cliff_output)
    load_adapters(engine, few)
    blocks = peak_blocks(run_timed(engine, trace(few), "probe"))
    del engine
    setting.release()
    arena = setting.page_bytes * (setting.kv_pages(blocks) + 8 * setting.pages(source))
    engine = setting.engine(source, arena, plan.cliff_prompt + plan.cliff_output)
    medians = []
    for adapters in (few, many):
        load_adapters(engine, adapters)
        before = engine.stats()
        served = run_timed(engine, trace(adapters), f"cliff{len(adapters)}-")
        after = engine.stats()
        first = sorted(s.first for s in served)
        medians.append(percentile(first, 0.5))
        ratio = medians[-1] / medians[0]
        setting.record(
            f"arena for 8 adapters, {len(adapters):2d} used: first token p50 {1000 * medians[-1]:.1f} p99 "
            f"{1000 * percentile(first, 0.99):.1f} ms, {ratio:.3f} x (goal 1.2), "
            f"{after.adapter_loads - before.adapter_loads} loads",
            section="cliff",
            adapters=len(adapters),
            arena_bytes=arena,
            kv_blocks=blocks,
            prompt=plan.cliff_prompt,
            output=plan.cliff_output,
            rate=plan.cliff_rate,
            requests=len(served),
            ttft_p50_ms=round(1000 * medians[-1], 2),
            ttft_p90_ms=round(1000 * percentile(first, 0.9), 2),
            ttft_p99_ms=round(1000 * percentile(first, 0.99), 2),
            total_p50_ms=round(1000 * statistics.median(s.total for s in served), 1),
            loads=after.adapter_loads - before.adapter_loads,
            evictions=after.adapter_evictions - before.adapter_evictions,
            preemptions=after.preemptions - before.preemptions,
            over_eight=round(ratio, 4),
            goal=1.2,
            met=ratio <= 1.2,
        )


def starvation(setting: Setting) -> None:
    plan = setting.plan
    source = setting.source((RANK,))
    pages = setting.tokens_pages(plan.starved_sequences, 2 * plan.length)
    arena = setting.page_bytes * (pages + 3 * setting.pages(source))
    engine = setting.engine(source, arena, 2 * plan.length)
    load_adapters(engine, range(6))
    before = engine.stats()
    adapters = list(range(6))
    items = poisson(plan.starved, plan.starved_rate, adapters, plan.length, plan.length)
    served = run_timed(engine, items, "starved")
    after = engine.stats()
    totals = sorted(s.total for s in served)
    median, last = percentile(totals, 0.5), percentile(totals, 0.99)
    by_adapter = [
        statistics.median(s.total for s in served if s.item.adapter == adapter)
        for adapter in {s.item.adapter for s in served}
    ]
    setting.record(
        f"6 adapters, room for 3: last token p50 {median:.2f} p99 {last:.2f} s: {last / median:.2f} (goal < 3), "
        f"adapters' medians {min(by_adapter):.2f} to {max(by_adapter):.2f} s, "
        f"{after.adapter_loads - before.adapter_loads} loads, {after.preemptions - before.preemptions} preemptions",
        section="starvation",
        adapters=6,
        arena_bytes=arena,
        prompt=plan.length,
        output=plan.length,
        rate=plan.starved_rate,
        requests=len(served),
        total_p50_s=round(median, 3),
        total_p99_s=round(last, 3),
        best_adapter_s=round(min(by_adapter), 3),
        worst_adapter_s=round(max(by_adapter), 3),
        loads=after.adapter_loads - before.adapter_loads,
        preemptions=after.preemptions - before.preemptions,
        over_median=round(last / median, 3),
        goal=3,
        met=last < 3 * median,
    )

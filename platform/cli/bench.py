"""Owns the command `loraplex bench`."""

import asyncio

import click
import msgspec

from loraplex.platform.cli.client import address_from_environment
from loraplex.platform.cli.output import json_option, print_json, print_table


@click.group()
def bench() -> None:
    """Measure a running server."""


@bench.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    help="Base model or adapter; repeat it to mix several, taken in turn.",
)
@click.option("--requests", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--concurrency", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--prompt-tokens", type=click.IntRange(min=1), default=128, show_default=True)
@click.option("--output-tokens", type=click.IntRange(min=1), default=64, show_default=True)
@json_option
def serve(
    models: tuple[str, ...],
    requests: int,
    concurrency: int,
    prompt_tokens: int,
    output_tokens: int,
    as_json: bool,
) -> None:
    """Send streamed completions to LORAPLEX_URL and report throughput and latency."""
    # Imported here so that other commands start fast.
    from loraplex.platform.bench.connection import Address
    from loraplex.platform.bench.load import Shot, closed_loop
    from loraplex.platform.bench.report import summarise

    url, key = address_from_environment()
    shots = [
        Shot(models[number % len(models)], _prompt(number, prompt_tokens), output_tokens)
        for number in range(requests)
    ]
    report = summarise(asyncio.run(closed_loop(Address.of(url, key), shots, concurrency)))
    if report.first_error is not None:
        raise click.ClickException(
            f"{report.errors} of {requests} requests failed, the first: {report.first_error}"
        )
    if as_json:
        print_json(msgspec.to_builtins(report))
        return
    rows = [
        ("requests", report.requests),
        ("seconds", f"{report.seconds:.2f}"),
        ("output tokens/s", f"{report.output_tokens_per_s:.0f}"),
        ("time to first token, ms p50 / p99", f"{report.ttft_p50:.1f} / {report.ttft_p99:.1f}"),
        ("time per output token, ms p50 / p99", f"{report.tpot_p50:.2f} / {report.tpot_p99:.2f}"),
    ]
    print_table(("measure", "value"), rows)


def _prompt(number: int, tokens: int) -> tuple[int, ...]:
    """Token ids that every vocabulary has, different for each request so that no prefix is shared."""
    return tuple(2 + (number * 7919 + i * 31) % 97 for i in range(tokens))

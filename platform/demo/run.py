"""Owns the order of the show: server up, adapters trained meanwhile, uploaded, asked, scored; then the server stays."""

import asyncio
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from loraplex.platform.demo.adapters import MAX_STEPS, RECIPES, Trained, train_adapter
from loraplex.platform.demo.management import Management
from loraplex.platform.demo.model_dir import demo_model_dir
from loraplex.platform.demo.report import (
    Result,
    print_access,
    print_result,
    print_sign_in,
    problems,
)
from loraplex.platform.demo.server import BASE_NAME, DemoError, DemoServer, choose_port
from loraplex.platform.demo.traffic import Score, questions, refusal, run_traffic

QUESTIONS_PER_ADAPTER = 50
READY_SECONDS = 120
EMAIL = "demo@example.com"  # a domain that nobody has


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What `loraplex demo` was asked for; without `data_dir` everything is gone after the show."""

    port: int | None
    data_dir: Path | None
    device: str
    exit: bool


class Interrupted(SystemExit):
    """Ctrl-C. Not a KeyboardInterrupt: if one passes through the `exec` of a string, as imports do, CPython ends the
    process by the signal in the end, although it was caught."""


def run_demo(options: DemoOptions, console: Console) -> None:
    """Play the whole demo; returns when it is over, with the server stopped.

    Raises:
        DemoError: something failed, or with `exit` the results are not what they should be.
    """
    if missing := [name for name in ("openai", "peft") if find_spec(name) is None]:
        raise DemoError(f"The demo needs {' and '.join(missing)}: pip install 'loraplex[demo]'.")
    with _data_dir(options.data_dir) as data_dir:
        server = DemoServer(data_dir, choose_port(options.port), options.device)
        try:
            failures = _show(server, data_dir, console)
            if not options.exit:
                console.print("The server keeps running. [bold]Ctrl-C[/] ends it.")
                _wait(server)
            elif failures:
                raise DemoError("\n".join(failures))
        finally:
            with console.status("Stopping the server"):
                server.stop()


def _show(server: DemoServer, data_dir: Path, console: Console) -> list[str]:
    began = time.monotonic()
    console.print(f"Server starting at [bold]{server.url}[/]; adapters train in the meantime.")
    trained = _train(data_dir, console)
    _await_ready(server, console)
    with Management(server.url, server.operator_key) as management:
        keys = _upload(management, trained, console)
        management.ensure_person(EMAIL, server.password, keys)
        score = _traffic(server.url, keys, console)
        mixed = management.most_mixed_batch()
    foreign = [
        (tenant, recipe.name, refusal(server.url, keys[tenant], recipe.name))
        for tenant in keys
        for recipe in RECIPES
        if recipe.tenant != tenant
    ]
    result = Result(trained, score, mixed, foreign)
    print_result(console, result)
    print_access(console, server.url, server.operator_key, keys)
    print_sign_in(console, server.url, EMAIL, server.password)
    failures = problems(result)
    for failure in failures:
        console.print(failure, style="bold red")
    console.print(f"The show took {time.monotonic() - began:.0f} s.", style="dim")
    return failures


def _train(data_dir: Path, console: Console) -> list[Trained]:
    with console.status("Importing PyTorch, transformers and PEFT"):
        import_module("peft")
        import torch
        from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers leaves it so
    # The model is too small to gain from more threads, and the server is starting beside us.
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft)\.")
    trained = []
    with _progress(console, TextColumn("{task.fields[state]}")) as progress:
        bars = [
            progress.add_task(f"train {recipe.name}", total=MAX_STEPS, start=False, state="")
            for recipe in RECIPES
        ]
        for bar, recipe in zip(bars, RECIPES, strict=True):
            progress.start_task(bar)

            # bar is bound now: the loop moves on.
            def on_step(step: int, accuracy: float, bar: TaskID = bar) -> None:
                progress.update(bar, completed=step, state=f"{accuracy:4.0%} right")

            done = train_adapter(demo_model_dir(), recipe, data_dir / "peft" / recipe.name, on_step)
            progress.update(bar, total=done.steps, completed=done.steps)
            trained.append(done)
    return trained


def _await_ready(server: DemoServer, console: Console) -> None:
    deadline = time.monotonic() + READY_SECONDS
    with console.status("Waiting for the server to be ready"):
        while not server.is_ready():
            if time.monotonic() > deadline:
                raise server.failure(f"The server was not ready after {READY_SECONDS} s")
            time.sleep(0.2)


def _upload(management: Management, trained: Sequence[Trained], console: Console) -> dict[str, str]:
    """Make tenants and keys, upload everything; returns a key per tenant."""
    keys = {}
    with _progress(console) as progress:
        bar = progress.add_task("upload adapters", total=len(trained))
        for recipe, path, *_ in trained:
            if recipe.tenant not in keys:
                management.ensure_tenant(recipe.tenant)
                keys[recipe.tenant] = management.create_key(recipe.tenant)
            management.upload(keys[recipe.tenant], recipe.name, path)
            progress.advance(bar)
    return keys


def _traffic(url: str, keys: Mapping[str, str], console: Console) -> Score:
    from openai import OpenAIError

    asked = questions(RECIPES, BASE_NAME, QUESTIONS_PER_ADAPTER)
    with _progress(console) as progress:
        bar = progress.add_task("ask everything at once", total=len(asked))
        try:
            return asyncio.run(run_traffic(url, keys, asked, lambda answer: progress.advance(bar)))
        except OpenAIError as error:
            raise DemoError(f"The server failed a request: {error}") from error


def _wait(server: DemoServer) -> None:
    with suppress(Interrupted):
        while True:
            server.check_alive()
            time.sleep(1)


@contextmanager
def _data_dir(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="loraplex-demo-") as fresh:
        yield Path(fresh)


def _progress(console: Console, *columns: ProgressColumn) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *columns,
        console=console,
    )

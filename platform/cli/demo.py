"""Owns the command `loraplex demo`."""

import signal
import sys
from pathlib import Path
from types import FrameType

import click


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Where to listen; 8000 if it is free.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep everything here; otherwise it is gone afterwards.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option(
    "--exit", "exit_after", is_flag=True, help="Stop after the show and judge it by the exit code."
)
def demo(port: int | None, data_dir: Path | None, device: str, exit_after: bool) -> None:
    """Train adapters, serve them for two tenants and see that each answers its own task."""
    # Imported here so that other commands start fast.
    from rich.console import Console

    from loraplex.platform.demo.run import DemoOptions, Interrupted, run_demo
    from loraplex.platform.demo.server import DemoError

    console = Console()
    signal.signal(signal.SIGTERM, _terminate)

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(128 + number)

    signal.signal(signal.SIGINT, interrupt)
    try:
        run_demo(DemoOptions(port, data_dir, device, exit_after), console)
    except Interrupted:
        console.print("Stopped.")
        raise
    except DemoError as error:
        raise click.ClickException(str(error)) from error


def _terminate(number: int, frame: FrameType | None) -> None:
    # As an exception, so that the server is ended on the way out.
    sys.exit(128 + number)

"""Owns the command `loraplex`: its subcommands, each imported when it is called."""

import importlib

import click

import loraplex

# Command → module and attribute. Server commands would otherwise make every client command slow to start.
_COMMANDS = {
    "adapter": "loraplex.platform.cli.adapters:adapter",
    "bench": "loraplex.platform.cli.bench:bench",
    "db": "loraplex.platform.cli.database:db",
    "doctor": "loraplex.platform.cli.doctor:doctor",
    "demo": "loraplex.platform.cli.demo:demo",
    "key": "loraplex.platform.cli.keys:key",
    "limit": "loraplex.platform.cli.limits:limit",
    "price": "loraplex.platform.cli.limits:price",
    "serve": "loraplex.platform.cli.serve:serve",
    "storage": "loraplex.platform.cli.storage:storage",
    "tenant": "loraplex.platform.cli.tenants:tenant",
    "user": "loraplex.platform.cli.users:user",
}


class LazyGroup(click.Group):
    """A group that imports a command when it is looked up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, sorted."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None for an unknown name."""
        target = _COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(loraplex.__version__, prog_name="loraplex")
def main() -> None:
    """Serve thousands of LoRA fine-tunes from one base model.

    Client commands talk to LORAPLEX_URL with LORAPLEX_API_KEY.
    """

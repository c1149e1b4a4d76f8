"""Owns `loraplex user`."""

import click

from loraplex.platform.cli.client import ApiClient, Json, api_path, rows
from loraplex.platform.cli.output import json_option, print_json, print_table


@click.group()
def user() -> None:
    """Make, list and see to people who sign in (with an operator's key)."""


@user.command()
@click.argument("email")
@click.option("--name", default="", help="What the user is called.")
@click.option("--operator", "is_operator", is_flag=True, help="Let the user manage everything.")
@json_option
def create(email: str, name: str, is_operator: bool, as_json: bool) -> None:
    """Make the user EMAIL and print, this once, the code to set a first password with."""
    body: dict[str, object] = {"email": email, "name": name, "is_operator": is_operator}
    with ApiClient.from_environment() as api:
        made = api.call("POST", api_path("users"), body=body)
    if as_json:
        print_json(made)
        return
    reset = made["reset"]
    assert isinstance(reset, dict)
    _print_code(email, reset)


@user.command("list")
@json_option
def list_users(as_json: bool) -> None:
    """List users by e-mail address."""
    with ApiClient.from_environment() as api:
        users = list(api.pages(api_path("users")))
    if as_json:
        print_json(users)
        return
    columns = ("id", "email", "name", "is_operator", "disabled", "last_sign_in_at")
    print_table(
        ("ID", "EMAIL", "NAME", "OPERATOR", "DISABLED", "LAST SIGN-IN"),
        [[_cell(row[column]) for column in columns] for row in users],
    )


@user.command()
@click.argument("email")
def disable(email: str) -> None:
    """Sign the user EMAIL out everywhere and let nobody sign in as that user."""
    _set_disabled(email, disabled=True)
    click.echo(f"Disabled {email}.")


@user.command()
@click.argument("email")
def enable(email: str) -> None:
    """Let the user EMAIL sign in again."""
    _set_disabled(email, disabled=False)
    click.echo(f"Enabled {email}.")


@user.command()
@click.argument("email")
@json_option
def reset(email: str, as_json: bool) -> None:
    """Print, this once, a code with which the user EMAIL sets a new password."""
    with ApiClient.from_environment() as api:
        made = api.call("POST", api_path("users", _find(api, email), "reset"))
    if as_json:
        print_json(made)
    else:
        _print_code(email, made)


def _set_disabled(email: str, *, disabled: bool) -> None:
    with ApiClient.from_environment() as api:
        api.call("PATCH", api_path("users", _find(api, email)), body={"disabled": disabled})


def _find(api: ApiClient, email: str) -> str:
    for row in rows(api.call("GET", api_path("users"), query={"email": email})):
        return str(row["id"])
    raise click.ClickException(f"There is no user {email}; loraplex user list shows all.")


def _print_code(email: str, code: Json) -> None:
    click.echo(f"With this code, until {code['expires_at']}, {email} sets a password:", err=True)
    click.echo(code["code"])


def _cell(value: object) -> object:
    return ("yes" if value else "") if isinstance(value, bool) else value

"""The ordinary examples of `llm`, its command line and its library, against a served adapter; prints as JSON what they
gave.

Run by an interpreter of its own, which has llm: URL and KEY, then the words to ask; with `LLM_USER_PATH` of an
empty folder.
"""

# What it imports is installed in another environment.
# mypy: ignore-errors

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import llm
import yaml
from click.testing import CliRunner
from llm.cli import cli

URL, KEY, *WORDS = sys.argv[1:]
WORD = WORDS[0]
BRIEF = ["-o", "temperature", "0", "-o", "max_tokens", "20", "-o", "stop", "\n"]
SCHEMA = {
    "type": "object",
    "properties": {"fits": {"type": "boolean"}, "color": {"enum": ["red", "blue"]}},
    "required": ["fits", "color"],
    "additionalProperties": False,
}


def configure() -> None:
    """Four models of the file that llm documents for other servers, with a key of its own."""
    where = {"api_base": URL, "api_key_name": "loraplex"}
    models = [
        {"model_id": "cipher", "model_name": "cipher", "aliases": ["c"], **where},
        {"model_id": "cipher-completion", "model_name": "cipher", "completion": True, **where},
        {"model_id": "cipher-responses", "model_name": "cipher", "responses": True, **where},
        {
            "model_id": "caller",
            "model_name": "caller",
            "supports_tools": True,
            "supports_schema": True,
            **where,
        },
    ]
    folder = Path(os.environ["LLM_USER_PATH"])
    (folder / "extra-openai-models.yaml").write_text(yaml.safe_dump(models))
    command("keys", "set", "loraplex", "--value", KEY)


def command(*words: str) -> str:
    """What `llm ...` prints; without another process, since each takes seconds to begin."""
    done = CliRunner().invoke(cli, words)
    if done.exit_code:
        raise SystemExit(f"llm {words}: {done.output} {done.exception!r}")
    return done.stdout


def installed_command(*words: str) -> str:
    """The same by the installed command."""
    done = subprocess.run(
        [Path(sys.executable).with_name("llm"), *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise SystemExit(f"llm {words}: {done.stderr}")
    return done.stdout


def command_line() -> dict[str, object]:
    """A prompt in pieces and whole, a conversation that goes on, a schema, the log of it all."""
    streamed = installed_command("prompt", "-m", "c", *BRIEF, WORD)
    command("prompt", "-m", "cipher", "--no-stream", *BRIEF, WORDS[1])
    continued = command("prompt", "-c", *BRIEF, WORD)
    before, last = json.loads(command("logs", "--json", "-n", "2"))
    shape = ["--schema", json.dumps(SCHEMA), "-o", "max_tokens", "200"]
    return {
        "streamed": streamed,
        "continued": continued,
        "one_conversation": before["conversation_id"] == last["conversation_id"],
        "logged": [(entry["prompt"], entry["response"]) for entry in (before, last)],
        "structured": json.loads(command("prompt", "-m", "caller", *shape, "Does it fit?")),
        "vector": json.loads(command("embed", "-m", "3-small", "--key", KEY, "-c", WORD)),
    }


def library() -> dict[str, object]:
    """The same from Python: whole, in pieces, a conversation, the older and the newer route."""
    options = {"temperature": 0, "max_tokens": 20, "stop": "\n"}
    model = llm.get_model("cipher")
    whole = model.prompt(WORD, stream=False, **options)
    text = whole.text()
    pieces = list(model.prompt(WORD, **options))
    conversation = model.conversation()
    turns = [conversation.prompt(word, **options).text() for word in WORDS]
    return {
        "whole": text,
        "usage": [whole.usage().input, whole.usage().output],
        "pieces": len(pieces),
        "joined": "".join(pieces),
        "turns": turns,
        "completion": llm.get_model("cipher-completion").prompt(f"{WORD} ->", **options).text(),
        "response": llm.get_model("cipher-responses")
        .prompt(WORD, temperature=0, max_tokens=20)
        .text(),
    }


async def library_async() -> dict[str, object]:
    """The same from an event loop."""
    model = llm.get_async_model("cipher")
    response = model.prompt(WORD, temperature=0, max_tokens=20, stop="\n")
    return {"async_streamed": "".join([piece async for piece in response])}


def vectors() -> list[list[float]]:
    """llm knows OpenAI's own names only, so an adapter is served under one of them."""
    model = llm.get_embedding_model("3-small")
    model.key = KEY
    return list(model.embed_multi(WORDS))


if __name__ == "__main__":
    configure()
    facts = {
        **command_line(),
        **library(),
        **asyncio.run(library_async()),
        "vectors": vectors(),
    }
    print(json.dumps(facts))

"""Owns `openapi.json` beside this file, from which the dashboard's types are made. `python web/write_openapi.py` renews
it; a test says when that is needed."""

import json
import tempfile
from pathlib import Path

from litestar.serialization import default_serializer, encode_json

from loraplex.platform.app import create_app
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.openapi import with_errors
from loraplex.platform.settings import Settings

FILE = Path(__file__).with_name("openapi.json")


def document() -> str:
    """The document this release serves at `/schema`, as it lies in the file."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder)), EnginePool([]))
        schema = encode_json(with_errors(app.openapi_schema.to_schema()), default_serializer)
    return (
        json.dumps(json.loads(schema, object_hook=_without_examples), indent=1, sort_keys=True)
        + "\n"
    )


def _without_examples(part: dict[str, object]) -> dict[str, object]:
    """Litestar makes some up, others each time."""
    return {name: value for name, value in part.items() if name != "examples"}


if __name__ == "__main__":
    FILE.write_text(document())

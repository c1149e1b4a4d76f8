"""Whatever the schema, a model of random weights writes JSON that is valid for it, or is cut off."""

import json
from pathlib import Path

import jsonschema
import pytest

from loraplex.adapters.offline import LLM
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.structure import Structure, StructureError
from loraplex.engine.structured.sources import check_structure
from support.checkpoints import tiny_model
from support.schemas import Schema, random_schema

REDRAWN = 10_000  # beyond all seeds that are asked for


@pytest.mark.parametrize(
    "seeds", [range(60), pytest.param(range(60, 500), marks=pytest.mark.soak)], ids=str
)
def test_answers_are_valid(seeds: range, tmp_path: Path) -> None:
    llm = LLM(
        tiny_model(tmp_path / "model", layers=1, hidden=32, intermediate=48, max_position=1024),
        device="cpu",
        arena_bytes=64 << 20,
        max_num_seqs=64,
    )
    schemas = {seed: accepted_schema(seed) for seed in seeds}
    params = [
        SamplingParams(
            max_tokens=600,
            temperature=1.0,
            seed=seed,
            structure=Structure("json_schema", json.dumps(schema)),
        )
        for seed, schema in schemas.items()
    ]
    completions = llm.generate(["x"] * len(params), params)
    ended = 0
    for (seed, schema), completion in zip(schemas.items(), completions, strict=True):
        if completion.finish_reason == "stop":
            ended += 1
            value = json.loads(completion.text)
            checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
            validator = jsonschema.Draft202012Validator(schema, format_checker=checker)
            problems = [error.message for error in validator.iter_errors(value)]
            assert not problems, (seed, schema, completion.text)
    assert ended > 0.9 * len(schemas)


def accepted_schema(seed: int) -> Schema:
    """A random schema; another one if its texts come to more than is admitted, the one reason to refuse any."""
    schema = random_schema(seed)
    try:
        check_structure(Structure("json_schema", json.dumps(schema)))
    except StructureError as error:
        if "counted characters" not in str(error):
            raise
        return accepted_schema(seed + REDRAWN)
    return schema

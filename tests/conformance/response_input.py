"""Owns what is said of the input of responses."""

from openai.types.responses.response_create_params import ResponseCreateParams

from conformance.chat_fields import BAD, CANNOT, MISSING
from conformance.judged import Ask, Effect, Field, Json, Refusal, ignored, no, refused, supported
from conformance.spec import kinds_of

LONG = "x" * 37
USER = {"role": "user", "content": "a"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "a"}
THOUGHT = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "a"}]}
READ = ("message", "function_call", "function_call_output", "reasoning")
OTHERS = [kind for kind in kinds_of(ResponseCreateParams, "input[]") if kind not in READ]


def count(ask: Ask, **fields: Json) -> int:
    """Tokens of the prompt that a request makes, each a byte; the template writes all that items have."""
    given = {"model": "base", "input": "Once upon", **fields}
    answer = ask.http.post("/v1/responses/input_tokens", json=given)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["input_tokens"])


def grows(before: list[Json], after: list[Json], by: int) -> Effect:
    """The effect of what the template writes: a longer prompt."""

    def effect(ask: Ask) -> None:
        assert count(ask, input=after) == count(ask, input=before) + by

    return effect


def kept(item: Json, **told: Json) -> Effect:
    """The effect of what is kept with a response."""

    def effect(ask: Ask) -> None:
        name = ask(input=[item, SAID], store=True)["id"]
        query = {"order": "asc"}
        listed = ask.http.get(f"/v1/responses/{name}/input_items", params=query).json()["data"]
        assert told.items() <= listed[0].items()

    return effect


def part(kind: str, **fields: Json) -> Json:
    role = "user" if kind == "input_text" else "assistant"
    return {"role": role, "content": [{"type": kind, **fields}]}


def text_input(ask: Ask) -> None:
    assert count(ask, input="a") == count(ask, input=[USER])
    assert count(ask, input=[USER, USER, USER]) - count(ask, input=[USER, USER]) > len("user a")


def roles(ask: Ask) -> None:
    user = count(ask, input=[USER])
    for role in ("system", "developer"):
        assert count(ask, input=[{**USER, "role": role}]) == user + len("system") - len("user")
    assert count(ask, input=[{**USER, "role": "assistant"}]) == user + len("assistant") - len(
        "user"
    )


def refuse(item: Json, code: str, place: str) -> Refusal:
    return no(code, input=[item], at=f"input[0].{place}" if place else "input[0]")


def ignoring(name: str, why: str, plain: Json, item: Json) -> Field:
    return ignored(name, why, grows([plain, SAID], [item, SAID], 0))


def no_part(name: str, kind: str, item: Json, place: str) -> Field:
    return refused(f"{name}({kind})", refuse(item, CANNOT, f"{place}.type"), note="text only")


MESSAGE, TEXT = "input[](message)", "input[](message).content[]"
CALLS, RESULTS, THOUGHTS = (f"input[]({kind})" for kind in READ[1:])
CACHED = "prefixes are always cached, and no answer changes"
NEW_IDS = "items get ids of their own"
MODEL = "it is always the model"
BREAK = {"prompt_cache_breakpoint": {"mode": "explicit"}}
SAID = part("output_text", text="a")
INPUT_FIELDS: tuple[Field, ...] = (
    supported(
        "input", text_input, no(MISSING, input=...), no(BAD, input=[]), note="text, or items"
    ),
    supported(MESSAGE, text_input),
    supported(f"{MESSAGE}.role", roles, refuse({**USER, "role": "x"}, BAD, "role")),
    supported(
        f"{MESSAGE}.content",
        grows([USER], [{**USER, "content": LONG}], 36),
        refuse({**USER, "content": []}, CANNOT, "content"),
    ),
    ignoring(f"{MESSAGE}.phase", "chat templates have none", USER, {**USER, "phase": "commentary"}),
    ignoring(f"{MESSAGE}.id", NEW_IDS, USER, {**USER, "id": "msg_1"}),
    supported(
        f"{MESSAGE}.status",
        kept({**USER, "status": "incomplete"}, status="incomplete"),
        refuse({**USER, "status": "x"}, BAD, "status"),
    ),
    supported(f"{TEXT}(input_text)", grows([USER], [part("input_text", text="a")], 0)),
    supported(
        f"{TEXT}(input_text).text",
        grows([USER], [part("input_text", text=LONG)], 36),
        refuse(part("input_text"), MISSING, "content[0].text"),
    ),
    ignoring(
        f"{TEXT}(input_text).prompt_cache_breakpoint",
        CACHED,
        USER,
        part("input_text", text="a", **BREAK),
    ),
    no_part(TEXT, "input_image", part("input_image"), "content[0]"),
    no_part(TEXT, "input_file", part("input_file"), "content[0]"),
    supported(f"{TEXT}(output_text)", grows([{**USER, "role": "assistant"}], [SAID], 0)),
    supported(f"{TEXT}(output_text).text", grows([SAID], [part("output_text", text=LONG)], 36)),
    ignoring(
        f"{TEXT}(output_text).annotations",
        "they tell the model nothing",
        SAID,
        part("output_text", text="a", annotations=[]),
    ),
    ignoring(
        f"{TEXT}(output_text).logprobs",
        "they tell the model nothing",
        SAID,
        part("output_text", text="a", logprobs=[]),
    ),
    supported(f"{TEXT}(refusal)", grows([SAID], [part("refusal", refusal="a")], 0)),
    supported(
        f"{TEXT}(refusal).refusal",
        grows([SAID], [part("refusal", refusal=LONG)], 36),
        refuse(part("refusal"), MISSING, "content[0].refusal"),
    ),
    supported(CALLS, grows([CALL], [{**CALL, "name": LONG}], 36)),
    supported(
        f"{CALLS}.arguments",
        grows([CALL], [{**CALL, "arguments": '{"a": "' + LONG + '"}'}], len(LONG) + 7),
        refuse({**CALL, "arguments": 1}, BAD, "arguments"),
    ),
    supported(
        f"{CALLS}.call_id",
        grows([CALL], [{**CALL, "call_id": LONG}], 36),
        refuse({**CALL, "call_id": 1}, BAD, "call_id"),
    ),
    supported(
        f"{CALLS}.name",
        grows([CALL], [{**CALL, "name": LONG}], 36),
        refuse({**CALL, "name": 1}, BAD, "name"),
    ),
    supported(f"{CALLS}.status", kept({**CALL, "status": "incomplete"}, status="incomplete")),
    ignoring(f"{CALLS}.id", NEW_IDS, CALL, {**CALL, "id": "fc_1"}),
    ignoring(f"{CALLS}.caller", MODEL, CALL, {**CALL, "caller": {"type": "direct"}}),
    refused(f"{CALLS}.async", refuse({**CALL, "async": True}, "unknown_parameter", "async")),
    refused(f"{CALLS}.namespace", refuse({**CALL, "namespace": "n"}, BAD, "namespace")),
    supported(RESULTS, grows([RESULT], [{**RESULT, "output": LONG}], 36)),
    supported(
        f"{RESULTS}.output",
        grows([RESULT], [{**RESULT, "output": LONG}], 36),
        refuse({**RESULT, "output": 1}, BAD, "output"),
    ),
    *(
        supported(
            f"{RESULTS}.output[](input_text){name}",
            grows([RESULT], [{**RESULT, "output": [{"type": "input_text", "text": LONG}]}], 36),
        )
        for name in ("", ".text")
    ),
    ignoring(
        f"{RESULTS}.output[](input_text).prompt_cache_breakpoint",
        CACHED,
        RESULT,
        {**RESULT, "output": [{"type": "input_text", "text": "a", **BREAK}]},
    ),
    *(
        no_part(f"{RESULTS}.output[]", kind, {**RESULT, "output": [{"type": kind}]}, "output[0]")
        for kind in ("input_image", "input_file")
    ),
    supported(
        f"{RESULTS}.call_id",
        grows([RESULT], [{**RESULT, "call_id": LONG}], 36),
        refuse({**RESULT, "call_id": 1}, BAD, "call_id"),
    ),
    supported(f"{RESULTS}.status", kept({**RESULT, "status": "incomplete"}, status="incomplete")),
    ignoring(f"{RESULTS}.id", NEW_IDS, RESULT, {**RESULT, "id": "fco_1"}),
    ignoring(f"{RESULTS}.caller", MODEL, RESULT, {**RESULT, "caller": {"type": "direct"}}),
    ignoring(f"{RESULTS}.name", "the call has it", RESULT, {**RESULT, "name": "f"}),
    refused(f"{RESULTS}.namespace", refuse({**RESULT, "namespace": "n"}, BAD, "namespace")),
    *(
        supported(
            f"{THOUGHTS}{name}",
            grows([SAID], [THOUGHT, SAID], 1),
            note="in front of what was said next",
        )
        for name in ("", ".content", ".content[].text")
    ),
    ignoring(
        f"{THOUGHTS}.content[].type",
        "there is one kind",
        THOUGHT,
        {**THOUGHT, "content": [{"type": "text", "text": "a"}]},
    ),
    *(
        supported(
            f"{THOUGHTS}.summary{name}",
            grows(
                [SAID],
                [{"type": "reasoning", "summary": [{"type": "summary_text", "text": LONG}]}, SAID],
                len(LONG),
            ),
            note="where there is no content",
        )
        for name in ("", "[].text")
    ),
    ignoring(
        f"{THOUGHTS}.summary[].type",
        "there is one kind",
        THOUGHT,
        {**THOUGHT, "summary": [{"type": "text", "text": "a"}]},
    ),
    refused(
        f"{THOUGHTS}.encrypted_content",
        refuse({**THOUGHT, "encrypted_content": "x"}, BAD, "encrypted_content"),
    ),
    supported(f"{THOUGHTS}.status", kept({**THOUGHT, "status": "incomplete"}, status="incomplete")),
    ignoring(f"{THOUGHTS}.id", NEW_IDS, THOUGHT, {**THOUGHT, "id": "rs_1"}),
    *(refused(f"input[]({kind})", refuse({"type": kind}, CANNOT, "type")) for kind in OTHERS),
)

"""What a chat becomes for its model: real templates' structures rendered as transformers does, with functions, thoughts
and variables; and what a template has no place for refused by name."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from transformers import PreTrainedTokenizerFast

from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.structure import Structure
from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.chat_prompt import ChatPrompt, Speaker, chat_prompt
from loraplex.platform.inference.checks import check_chat
from loraplex.platform.inference.reasoning import Stage
from loraplex.platform.inference.schemas import ChatRequest
from loraplex.platform.inference.templates import Templates
from support import chat_templates
from support.checkpoints import write_tokenizer

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the \u00e9 weather <b>",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
OTHER = {"type": "function", "function": {"name": "clock"}}
CALL: Any = {
    "id": "abcDEF123",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "K\u00f6ln"}'},
}
TALK: Any = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "rain", "tool_call_id": "abcDEF123"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return folder


async def prompt(folder: Path, template: str | None, **fields: object) -> ChatPrompt:
    fields = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    request = msgspec.json.decode(msgspec.json.encode(fields), type=ChatRequest)
    check_chat(request)
    tokenizer = Tokenizer.from_directory(folder)
    tokenizer.chat_template = template
    return await chat_prompt(Templates(), Speaker(tokenizer, None), request)


@pytest.mark.parametrize("tools", [None, [TOOL]])
@pytest.mark.parametrize("name", ["llama3", "hermes", "qwen3", "mistral"])
async def test_templates_of_the_families_are_rendered_as_transformers_does(
    name: str, tools: list[Any] | None, folder: Path
) -> None:
    template = chat_templates.ALL[name]
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    # Arguments reach templates as objects, as models' makers advise.
    function = {**CALL["function"], "arguments": {"city": "K\u00f6ln"}}
    called = {"role": "assistant", "content": "", "tool_calls": [{**CALL, "function": function}]}
    talk = [*TALK[:2], called, *TALK[3:]]
    expected = theirs.apply_chat_template(
        talk, tools=tools, chat_template=template, tokenize=False, add_generation_prompt=True
    )
    ours = await prompt(folder, template, messages=TALK, tools=tools)
    assert ours.text == expected
    assert "weather" in ours.text


async def test_an_adapters_template_gets_the_same_variables(folder: Path) -> None:
    tokenizer = Tokenizer.from_directory(folder)
    fields = {"model": "m", "messages": TALK, "tools": [TOOL]}
    request = msgspec.json.decode(msgspec.json.encode(fields), type=ChatRequest)
    templates = Templates()
    ours = await chat_prompt(templates, Speaker(tokenizer, chat_templates.HERMES), request)
    assert ours.text == (await prompt(folder, chat_templates.HERMES, **fields)).text


async def test_a_model_can_have_a_template_of_its_own_for_functions(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config["chat_template"] = [
        {"name": "default", "template": "plain"},
        {"name": "tool_use", "template": "{{ tools | length }} tools <tool_call>"},
    ]
    file.write_text(json.dumps(config))
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert (tokenizer.chat_template, tokenizer.tool_template) == (
        "plain",
        "{{ tools | length }} tools <tool_call>",
    )
    for tools, text in ((None, "plain"), ([TOOL], "1 tools <tool_call>")):
        fields = {"model": "m", "messages": TALK[:2], "tools": tools}
        request = msgspec.json.decode(msgspec.json.encode(fields), type=ChatRequest)
        ours = await chat_prompt(Templates(), Speaker(tokenizer, None), request)
        assert ours.text == text
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("newer")
    assert Tokenizer.from_directory(tmp_path).tool_template == "newer"


async def test_mistrals_template_gets_ids_it_takes(folder: Path) -> None:
    call = {**CALL, "id": "call_0123456789abcdef"}
    talk = [*TALK[:2], {"role": "assistant", "tool_calls": [call]}]
    talk.append({"role": "tool", "content": "rain", "tool_call_id": call["id"]})
    text = (await prompt(folder, chat_templates.MISTRAL, messages=talk)).text
    own = text.partition('"call_id": "')[2].partition('"')[0]
    assert len(own) == 9
    assert f'"id": "{own}"' in text


async def test_the_older_calls_of_functions_reach_templates_as_those_of_today(folder: Path) -> None:
    newer = await prompt(folder, chat_templates.HERMES, messages=TALK, tools=[TOOL])
    older = [
        *TALK[:2],
        {"role": "assistant", "content": None, "function_call": CALL["function"]},
        {"role": "function", "name": "weather", "content": "rain"},
    ]
    ours = await prompt(folder, chat_templates.HERMES, messages=older, functions=[TOOL["function"]])
    assert ours.text == newer.text


async def test_a_template_is_told_what_the_request_says(folder: Path) -> None:
    source = "{{ enable_thinking }} {{ documents[0].text }} {{ add_generation_prompt }} {{ tools is none }}"
    ours = await prompt(
        folder,
        source,
        chat_template_kwargs={"enable_thinking": 7},
        documents=[{"title": "t", "text": "a paper"}],
        add_generation_prompt=False,
    )
    assert ours.text == "7 a paper False True"
    # Nobody says so, but a function that may not be called is not shown.
    ours = await prompt(folder, source, tools=[TOOL], tool_choice="none", documents=[{"text": "x"}])
    assert ours.text == " x True True"


async def test_the_last_message_can_be_continued(folder: Path) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " One, two, "}]
    for name, kept in (("hermes", "\n One, two, "), ("llama3", "\n\nOne, two,")):
        template = chat_templates.ALL[name]
        ours = await prompt(folder, template, messages=talk, continue_final_message=True)
        assert ours.text.endswith(kept)
    with pytest.raises(BadRequestError) as error:
        await prompt(folder, "nothing", messages=talk, continue_final_message=True)
    assert error.value.param == "continue_final_message"


@pytest.mark.parametrize(
    ("template", "effort", "stage", "end"),
    [
        (chat_templates.QWEN3, None, Stage.OPEN, "assistant\n"),
        (chat_templates.QWEN3, "medium", Stage.OPEN, "assistant\n"),
        (chat_templates.QWEN3, "none", Stage.SAYING, "</think>\n\n"),
        (chat_templates.R1, None, Stage.THINKING, "<think>\n"),
        (chat_templates.HERMES, "none", Stage.SAYING, "assistant\n"),
        ("{{ reasoning_effort }}", "high", Stage.SAYING, "high"),
    ],
)
async def test_effort_is_told_in_the_templates_own_words(
    template: str, effort: str | None, stage: Stage, end: str, folder: Path
) -> None:
    ours = await prompt(folder, template, reasoning_effort=effort)
    assert ours.reading.stage is stage
    assert ours.text.endswith(end)


@pytest.mark.parametrize(
    ("template", "fields", "param"),
    [
        ("{{ messages }}", {"tools": [TOOL]}, "tools"),
        ("{{ messages }}", {"functions": [TOOL["function"]]}, "functions"),
        ("{{ tools }}", {"tools": [TOOL]}, "tools"),  # how it writes calls is not known
        ("x", {"documents": [{"text": "x"}]}, "documents"),
        ("x", {"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs.enable_thinking"),
        ("{{ messages }}", {"chat_template_kwargs": {"messages": 1}}, "chat_template_kwargs.messages"),
        ("{{ x }}", {"chat_template_kwargs": {"x.y": 1}}, "chat_template_kwargs.x.y"),
        (chat_templates.QWEN3, {"reasoning_effort": "high"}, "reasoning_effort"),
        (chat_templates.R1, {"reasoning_effort": "none"}, "reasoning_effort"),
        (chat_templates.HERMES, {"reasoning_effort": "low"}, "reasoning_effort"),
        (None, {}, "model"),
    ],
)  # fmt: skip
async def test_what_a_template_has_no_place_for_is_refused_by_name(
    template: str | None, fields: dict[str, object], param: str, folder: Path
) -> None:
    with pytest.raises(BadRequestError) as error:
        await prompt(folder, template, **fields)
    assert error.value.param == param


def source(params: SamplingParams) -> Any:
    assert params.structure is not None
    assert params.structure.kind == "structural_tag"
    return json.loads(params.structure.source)["format"]


async def test_calls_are_enforced_where_they_must_be(folder: Path) -> None:
    plain = SamplingParams()
    tools = [TOOL, OTHER]
    hermes = chat_templates.HERMES
    assert (await prompt(folder, hermes, tools=tools)).params(plain) == plain
    required = await prompt(folder, hermes, tools=tools, tool_choice="required")
    text = json.dumps(source(required.params(plain)))
    assert "weather" in text
    assert "clock" in text
    assert '"star"' in text
    assert required.reading.names == {"weather", "clock"}
    choice = {"type": "function", "function": {"name": "weather"}}
    named = await prompt(folder, hermes, tools=tools, tool_choice=choice)
    text = json.dumps(source(named.params(plain)))
    assert "clock" not in text
    assert '"star"' not in text
    assert named.reading.single
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}
    checked = await prompt(folder, hermes, tools=[strict])
    assert source(checked.params(plain))["type"] == "dispatch"
    # Either an answer of the form that was asked for, or calls.
    answer = SamplingParams(structure=Structure("json_schema", '{"type": "boolean"}'))
    both = source((await prompt(folder, hermes, tools=tools)).params(answer))
    assert both["elements"][0] == {"type": "json_schema", "json_schema": {"type": "boolean"}}
    assert (await prompt(folder, hermes)).params(answer) == answer


async def test_thoughts_come_in_front_of_what_is_enforced(folder: Path) -> None:
    answer = SamplingParams(structure=Structure("regex", "[0-9]"))
    opens = source((await prompt(folder, chat_templates.QWEN3)).params(answer))
    assert opens["type"] == "or"
    goes_on = source((await prompt(folder, chat_templates.R1)).params(answer))
    assert goes_on["elements"][0] == {"type": "any_text", "excludes": ["</think>"]}
    none = await prompt(folder, chat_templates.QWEN3, reasoning_effort="none")
    assert none.params(answer) == answer


async def test_marks_that_are_special_tokens_are_shown_and_begin_forced_calls(
    tmp_path: Path,
) -> None:
    write_tokenizer(tmp_path)
    file = tmp_path / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    token = {**tokenizer["added_tokens"][-1], "id": 260, "content": "[TOOL_CALLS]"}
    tokenizer["added_tokens"].append(token)
    file.write_text(json.dumps(tokenizer))
    plain = SamplingParams()
    free = await prompt(tmp_path, chat_templates.MISTRAL, tools=[TOOL])
    assert free.params(plain).visible_token_ids == (260,)
    assert not free.reading.opening
    forced = await prompt(tmp_path, chat_templates.MISTRAL, tools=[TOOL], tool_choice="required")
    assert forced.text.endswith("[/INST][TOOL_CALLS]")
    assert forced.reading.opening == "[TOOL_CALLS]"
    assert "TOOL_CALLS" not in json.dumps(source(forced.params(plain)))
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}
    with pytest.raises(BadRequestError, match="only if tool_choice is"):
        (await prompt(tmp_path, chat_templates.MISTRAL, tools=[strict])).params(plain)


async def test_a_schema_that_cannot_be_enforced_is_named_by_its_place(folder: Path) -> None:
    wrong = {"name": "bad", "parameters": {"type": "object", "not": {}}}
    strict = {"type": "function", "function": {**wrong, "strict": True}}
    loose = {"type": "function", "function": wrong}
    template = chat_templates.ALL["llama3"]
    only = {"type": "function", "function": {"name": "bad"}}
    for fields, place in (
        ({"tools": [TOOL, loose], "tool_choice": "required"}, "tools[1].function.parameters"),
        ({"tools": [OTHER, TOOL, strict]}, "tools[2].function.parameters"),
        ({"tools": [TOOL, loose], "tool_choice": only}, "tools[1].function.parameters"),
        ({"functions": [wrong], "function_call": {"name": "bad"}}, "functions[0].parameters"),
    ):
        read = await prompt(folder, template, **fields)
        with pytest.raises(BadRequestError) as refused:
            read.params(SamplingParams())
        assert refused.value.param == place
        assert refused.value.message.startswith(f"{place}: ")
    # Where nothing is enforced, any schema will do.
    assert (await prompt(folder, template, tools=[TOOL, loose])).params(
        SamplingParams()
    ).structure is None

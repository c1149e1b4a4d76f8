"""Chat templates: rendered as Hugging Face does, sandboxed, and those of tenants bounded in time and memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from transformers import AutoTokenizer

from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.inference.chat_messages import template_messages
from loraplex.platform.inference.chat_template import ChatTemplate, Json, TemplateError
from loraplex.platform.inference.schemas import Message
from loraplex.platform.inference.template_process import TemplateProcess
from support.checkpoints import tiny_model

CONVERSATION: list[Json] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi <b>& \u00e9\U0001f600"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "And now?"},
]

# Features that templates of well-known models use.
TEMPLATES = [
    "{% for m in messages %}{{ m.role }}: {{ m['content'] | trim }}\n{% endfor %}",
    "{%- for m in messages %}\n  {%- if loop.first %}{{ bos_token }}{% endif %}\n"
    "{{ m.content }}{{ eos_token }}\n{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
    "{{ ns.n }}",
    "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
    "{{ m | tojson }}{% endfor %}",
    "{{ messages | tojson(indent=2) }}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "{% for m in messages[1:] %}{{ m.content.split(' ')[-1].strip('.') }}{% endfor %}{{ tools is none }}",
    "{% if add_generation_prompt %}<|assistant|>{% endif %}{{ messages[-1]['content'] }}",
]


@pytest.fixture
async def process() -> AsyncIterator[TemplateProcess]:
    process = TemplateProcess()
    yield process
    process.close()


def variables(messages: list[Json], bos_token: str = "", eos_token: str = "") -> Json:
    return {
        "messages": messages,
        "bos_token": bos_token,
        "eos_token": eos_token,
        "add_generation_prompt": True,
        "tools": None,
        "documents": None,
    }


def render(source: str, messages: list[Json] | None = None) -> str:
    return ChatTemplate(source).render(variables(messages or CONVERSATION, "<s>", "</s>"))


def messages(*items: object) -> list[Json]:
    return template_messages(msgspec.convert(list(items), list[Message]))


@pytest.mark.parametrize("source", TEMPLATES)
async def test_renders_as_transformers_does(
    source: str, tmp_path_factory: pytest.TempPathFactory, process: TemplateProcess
) -> None:
    directory = tiny_model(tmp_path_factory.mktemp("model"))
    theirs = AutoTokenizer.from_pretrained(directory).apply_chat_template(
        CONVERSATION,  # type: ignore[arg-type]  # narrower than what it takes
        chat_template=source,
        tokenize=False,
        add_generation_prompt=True,
    )
    assert render(source) == theirs
    assert await process.render(source, variables(CONVERSATION, "<s>", "</s>")) == theirs


def test_the_models_own_template_is_read_from_its_directory(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_directory(tiny_model(tmp_path))
    assert tokenizer.chat_template is not None
    assert render(tokenizer.chat_template, messages({"role": "user", "content": "Hi"})) == (
        "<s><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for %}", "The chat template is not valid: Expected an expression, got 'end of statement block'"),
        ("{{ raise_exception('Roles must alternate.') }}", "these messages: Roles must alternate."),
        ("{{ messages.nothing.at_all }}", "these messages: 'list object' has no attribute 'nothing'"),
        ("{{ 1 / 0 }}", "The chat template refused these messages: division by zero"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "access to attribute '__class__'"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "The chat template refused these messages: "),
        ("{{ '\\ud800' }}", "half a surrogate pair"),
        ("{{ raise_exception('a\\ud800b') }}", "these messages: a?b"),
        ("{% if 1 %}" * 150 + "{% endif %}" * 150, "The chat template is not valid: "),
    ],
)  # fmt: skip
async def test_what_a_template_may_not_do_is_an_error_not_a_crash(
    source: str, reason: str, process: TemplateProcess
) -> None:
    with pytest.raises(TemplateError) as here:
        render(source)
    assert reason in str(here.value)
    with pytest.raises(TemplateError) as there:
        await process.render(source, variables(CONVERSATION))
    assert str(there.value) == str(here.value)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    ],
)
async def test_a_template_without_end_is_stopped_and_banned_for_a_while(
    source: str, process: TemplateProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loraplex.platform.inference.template_process.CPU_SECONDS", 0.5)
    with pytest.raises(TemplateError, match="takes too much time or memory"):
        await process.render(source, variables(CONVERSATION))
    assert process._process is None
    with pytest.raises(TemplateError, match="takes too much time or memory"):
        await process.render(source, variables(CONVERSATION))
    assert process._process is None, "refused at once: no process was started for it"
    monkeypatch.undo()
    assert await process.render("{{ 1 }}", variables(CONVERSATION)) == "1"  # others go on


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10 ** 10 }}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{{ 'x' * (9 * 1024 * 1024) }}",
        "{{ 3 ** (10 ** 11) }}",
    ],
)
async def test_a_template_that_grows_without_bound_is_an_error(
    source: str, process: TemplateProcess
) -> None:
    with pytest.raises(TemplateError):
        await process.render(source, variables(CONVERSATION))
    assert await process.render("{{ 1 }}", variables(CONVERSATION)) == "1"


async def test_a_cancelled_render_does_not_give_its_answer_to_the_next(
    process: TemplateProcess,
) -> None:
    await process.render("{{ 0 }}", variables(CONVERSATION))
    slow = "{% for a in range(999) %}{% for b in range(999) %}{% endfor %}{% endfor %}secret"
    task = asyncio.create_task(process.render(slow, variables(CONVERSATION)))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await process.render("{{ 'mine' }}", variables(CONVERSATION)) == "mine"


def test_messages_become_what_templates_expect() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    assert messages(
        {"role": "developer", "content": "D"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            "name": "n",
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "r", "tool_call_id": "c1"},
        {"role": "assistant", "refusal": "no"},
    ) == [
        {"role": "system", "content": "D"},
        {"role": "user", "content": "a\nb", "name": "n"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
            ],
        },
        {"role": "tool", "content": "r", "tool_call_id": "c1"},
        {"role": "assistant", "content": "no"},
    ]
    assert json.dumps(messages({"role": "user", "content": "x"}))


async def test_arguments_of_a_call_may_be_nested_too_deeply_to_be_read(
    process: TemplateProcess,
) -> None:
    deep = "[" * 100_000
    call = {"id": "c1", "function": {"name": "f", "arguments": deep}}
    sent = messages({"role": "assistant", "tool_calls": [call]})
    source = "{{ messages[0].tool_calls[0].function.arguments }}"
    assert await process.render(source, variables(sent)) == deep
    half = {"id": "c1", "function": {"name": "f", "arguments": '"\\ud800"'}}
    with pytest.raises(TemplateError, match="half a surrogate pair"):
        render(source, messages({"role": "assistant", "tool_calls": [half]}))

"""Chat through the server: whose template is used, and what a template may do to it."""

from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types
import pytest

from loraplex.engine.tokenizer import Tokenizer
from support.serve import Serve, Tenant

pytestmark = pytest.mark.e2e

API = "loraplex.platform.api_worker"
MESSAGES = [{"role": "user", "content": "Hi"}]


def prompt_tokens(tenant: Tenant, model: str) -> int:
    answer = tenant.chat(model=model, messages=MESSAGES, max_tokens=1)
    assert answer.status_code == 200, answer.text
    count: int = answer.json()["usage"]["prompt_tokens"]
    return count


@pytest.fixture(scope="module")
def styled(server: Serve, adapters: list[Path]) -> Tenant:
    tenant = server.tenant("styled")
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    assert tenant.push("styled", adapters[0], chat_template=template).status_code == 201
    assert tenant.push("plain", adapters[1]).status_code == 201
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    assert tenant.push("endless", adapters[0], chat_template=loop).status_code == 201
    angry = "{{ raise_exception('No system message, please.') }}"
    assert tenant.push("angry", adapters[0], chat_template=angry).status_code == 201
    return tenant


def test_an_adapters_own_template_goes_before_the_models(styled: Tenant, model: Path) -> None:
    tokenizer = Tokenizer.from_directory(model)
    own = tokenizer.encode("<user>Hi", add_special_tokens=False)
    base = tokenizer.encode(
        "<s><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False
    )
    assert prompt_tokens(styled, "styled") == len(own)
    assert prompt_tokens(styled, "plain") == len(base)
    assert prompt_tokens(styled, styled.base) == len(base)


def test_the_templated_text_is_what_a_completion_of_it_continues(styled: Tenant) -> None:
    by_chat = styled.chat(model="styled", messages=MESSAGES, temperature=0, max_tokens=12).json()
    ids = styled.complete(model="styled", prompt="<user>Hi", temperature=0, max_tokens=12).json()
    # The completion has the tokenizer's own <s> in front, so only its length is known to differ.
    assert by_chat["usage"]["prompt_tokens"] == ids["usage"]["prompt_tokens"] - 1


def test_one_process_renders_for_all_and_survives_bad_templates(
    server: Serve, styled: Tenant
) -> None:
    (worker,) = server.children(API)
    for _ in range(3):
        prompt_tokens(styled, "styled")
    (renderer,) = worker.children()
    answer = styled.chat(model="angry", messages=MESSAGES)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "The chat template refused these messages: No system message, please.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "chat_template_error",
    }
    assert worker.children() == [renderer]
    answer = styled.chat(model="endless", messages=MESSAGES)
    assert answer.status_code == 400
    assert "too much time or memory" in answer.json()["error"]["message"]
    prompt_tokens(styled, "styled")
    assert len(worker.children()) == 1
    assert not psutil.pid_exists(renderer.pid)

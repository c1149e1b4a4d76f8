"""Owns the service that is judged: a random model that can fill gaps, call functions and be told of everything, and an
adapter of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import tokenizers

from conformance.judged import SPLIT
from conformance.sampling import ADAPTER
from loraplex.engine.config import EngineConfig
from support.checkpoints import CHAT_TEMPLATE, VOCAB_SIZE, peft_adapter, tiny_model, write_tokenizer
from support.in_background import in_background
from support.services import OPERATOR, bearer
from support.whole_service import WholeService

MARKS = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
# Calls of functions as Hermes and Qwen write them; all else that a request can tell is written down too.
TEMPLATE = (
    "{{ bos_token }}{% if tools %}<|im_start|>system\n"
    "{% for tool in tools %}{{ tool.function | tojson }}{% endfor %} in <tool_call></tool_call><|im_end|>\n"
    "{% endif %}{{ reasoning_effort }}{% for message in messages %}"
    "<|im_start|>{{ message.role }} {{ message.name }} {{ message.tool_call_id }}\n"
    "{{ message.reasoning_content }}{{ message.content }}"
    "{% for call in message.tool_calls %}<tool_call>{{ call | tojson }}</tool_call>{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@contextmanager
def serving(folder: Path) -> Iterator[httpx.Client]:
    """A tenant's client of the service."""
    model = tiny_model(folder / "model", vocab_size=VOCAB_SIZE + len(MARKS), max_position=1024)
    write_tokenizer(model, chat_template=TEMPLATE)
    file = str(model / "tokenizer.json")
    tokenizer = tokenizers.Tokenizer.from_file(file)
    tokenizer.add_special_tokens(MARKS)
    tokenizer.save(file)
    config = EngineConfig(model=model, device="cpu", max_num_seqs=16, arena_bytes=64 * 2**20)
    memory = 8 * 2**20
    service = WholeService(config, folder / "data", host_bytes=memory, disk_bytes=memory)
    try:
        with in_background(service.running()), httpx.Client(base_url=service.url) as client:
            client.timeout = httpx.Timeout(120)
            operator = bearer(OPERATOR)
            client.post("/api/v1/tenants", json={"name": "t"}, headers=operator)
            made = client.post("/api/v1/tenants/t/keys", json={}, headers=operator)
            client.headers = httpx.Headers(bearer(made.json()["key"]))
            for seed in (1, 2):
                _push(client, peft_adapter(model, folder / f"adapter {seed}", rank=4, seed=seed))
            alias = f"/api/v1/adapters/{ADAPTER}/aliases/{SPLIT.partition('@')[2]}"
            split = client.put(alias, json={"split": {"1": 1, "2": 1}})
            assert split.status_code == 200, split.text
            yield client
    finally:
        service.close()


def _push(client: httpx.Client, adapter: Path) -> None:
    names = {"config": "adapter_config.json", "weights": "adapter_model.safetensors"}
    files = {part: (name, (adapter / name).read_bytes()) for part, name in names.items()}
    fields = {"name": ADAPTER, "chat_template": CHAT_TEMPLATE}
    answer = client.post("/api/v1/adapters", data=fields, files=files)
    assert answer.status_code == 201, answer.text

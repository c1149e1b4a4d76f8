"""The shipped base model: loads everywhere, is small, has the skills, and does not know which one is wanted."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from loraplex.engine.model_config import ModelConfig
from loraplex.platform.demo.adapters import RECIPES, Recipe
from loraplex.platform.demo.model_dir import demo_model_dir
from loraplex.platform.demo.pretrain import IGNORED, build_tokenizer, encode_batch, exact
from loraplex.platform.demo.tasks import held_out_words, line, random_word
from support.demo_answers import greedy_answers


def test_it_is_a_small_llama_the_engine_accepts() -> None:
    path = demo_model_dir()
    config = ModelConfig.from_directory(path)
    assert config.model_type == "llama"
    assert config.num_kv_heads < config.num_heads
    assert (path / "model.safetensors").stat().st_size < 6_000_000
    files = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert files < {file.name for file in path.iterdir()}


def test_its_tokenizer_is_the_one_the_script_builds_and_takes_any_text() -> None:
    shipped = AutoTokenizer.from_pretrained(demo_model_dir())
    text = "stone -> ünïcode 漢字\n"
    ids = shipped(text)["input_ids"]
    assert ids == build_tokenizer().encode(text).ids
    assert ids[0] == shipped.bos_token_id
    assert shipped.decode(ids, skip_special_tokens=True) == text


def test_its_chat_template_writes_lines() -> None:
    tokenizer = AutoTokenizer.from_pretrained(demo_model_dir())
    chat = [
        {"role": "user", "content": "stone"},
        {"role": "assistant", "content": "enots"},
        {"role": "user", "content": "bread"},
    ]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<s>stone -> enots\nbread ->"


def test_labels_cover_the_answers_and_what_ends_them_only() -> None:
    tokenizer = build_tokenizer()
    ids, labels = encode_batch(tokenizer, ["ab -> ba\ncd -> dc", "x -> x"])
    kept = [
        tokenizer.decode(row[label != IGNORED].tolist(), skip_special_tokens=False)
        for row, label in zip(ids, labels, strict=True)
    ]
    assert kept == [" ba\n dc</s>", " x</s>"]


def test_exact_judges_whole_rows() -> None:
    labels = torch.tensor([[IGNORED, 1, 2], [IGNORED, 1, 2]])
    logits = torch.nn.functional.one_hot(torch.tensor([[1, 2, 0], [1, 0, 0]]), 3).float()
    assert exact(logits, labels).tolist() == [True, False]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_it_infers_the_task_from_three_lines(recipe: Recipe) -> None:
    rng = random.Random(5)
    model = AutoModelForCausalLM.from_pretrained(demo_model_dir(), dtype=torch.float32)
    tokenizer = build_tokenizer()
    texts = [
        "\n".join(line(recipe.task, random_word(rng, kept_out=True)) for _ in range(4))
        for _ in range(50)
    ]
    ids, labels = encode_batch(tokenizer, texts)
    newline = tokenizer.encode("\n").ids[-1]
    for row, label in zip(ids, labels, strict=True):
        label[: (row == newline).nonzero()[-1].item() + 1] = IGNORED
    with torch.inference_mode():
        right = exact(model(input_ids=ids).logits, labels).float().mean().item()
    assert right >= 0.7


def test_alone_it_repeats_the_word_and_so_answers_no_task() -> None:
    model = AutoModelForCausalLM.from_pretrained(demo_model_dir(), dtype=torch.float32)
    words = held_out_words(20)
    answers = greedy_answers(model, words)
    assert sum(map(str.__eq__, answers, words)) >= 16
    for recipe in RECIPES:
        wanted = [recipe.task.answer(word) for word in words]
        assert sum(map(str.__eq__, answers, wanted)) <= 4, recipe.name

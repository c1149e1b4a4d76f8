"""Owns attacks through the weights file; the config beside it is good."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator

from support.hostile import (
    PREFIX,
    RANK,
    Attack,
    Tensor,
    file_of,
    good_config,
    good_file,
    good_tensors,
    header_of,
)

LIMIT = 2 * 1024 * 1024  # of a header
_LAYER = f"{PREFIX}model.layers.0"
_Q = f"{_LAYER}.self_attn.q_proj"
_A, _B = f"{_Q}.lora_A.weight", f"{_Q}.lora_B.weight"
_MIB = 1024 * 1024


def weights_attacks() -> Iterator[Attack]:
    """Every one of them."""
    for name, weights, says in (*_other_files(), *_headers(), *_entries(), *_ranges(), *_values()):
        yield _attack(name, weights, "weights", says)
    for name, weights, field, says in _tensors():
        yield _attack(name, weights, field, says)
    yield from _large()


def _attack(name: str, weights: bytes, field: str, says: str) -> Attack:
    return Attack(f"weights: {name}", good_config(), lambda: iter([weights]), None, field, says)


def _other_files() -> Iterator[tuple[str, bytes, str]]:
    inside = good_file()
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("../../adapter_model.safetensors", inside)
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        info = tarfile.TarInfo("../../etc/cron.d/x")
        info.size = len(inside)
        tar.addfile(info, io.BytesIO(inside))
    yield "nothing", b"", "truncated"
    yield "one byte", b"\0", "truncated"
    yield "seven bytes", bytes(7), "truncated"
    yield "a zip archive", zipped.getvalue(), "zip archive"
    yield "a tar archive", tarred.getvalue(), "not safetensors"
    yield "a gzip archive", gzip.compress(inside), "gzip archive"
    yield "a gzip bomb", gzip.compress(bytes(50 * _MIB)), "gzip archive"
    yield "a pickle", b"\x80\x04\x95\x1e\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94", "pickle"
    yield "a text pickle", b"cos\nsystem\n(S'id'\ntR.", "not safetensors"
    yield "GGUF", b"GGUF\x03\0\0\0" + bytes(64), "GGUF"
    yield "a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"
    yield "a web page", b"<!doctype html><html><body>Not found</body></html>", "not safetensors"
    yield "a program", b"\x7fELF\x02\x01\x01\0" + bytes(64), "not safetensors"
    yield "the config", good_config(), "not safetensors"
    yield "a zip behind it", inside + zipped.getvalue(), "longer than its tensors"


def _headers() -> Iterator[tuple[str, bytes, str]]:
    good = json.dumps(header_of(good_tensors())).encode()
    data = b"".join(tensor.data for tensor in good_tensors().values())
    for length in (LIMIT + 1, 99_000_000, 2**31, 2**63 - 1, 2**63, 2**64 - 1):
        yield f"a header of {length} bytes", struct.pack("<Q", length) + good, "announces a header"
    for length in (0, 1):
        yield (
            f"a header of {length} bytes",
            struct.pack("<Q", length) + b"{" + data,
            "no safetensors",
        )
    yield "a header longer than the file", struct.pack("<Q", 4096) + good, "truncated"
    deep = b'{"a":' * (LIMIT // 8)
    for name, header, says in (
        ("an array", b"[]", "start with an object"),
        ("spaces first", b"  " + good, "start with an object"),
        ("no JSON", b"{" * 64, "not valid JSON"),
        ("broken UTF-8", good.replace(b"q_proj", b"q\xff\xc0roj"), "not valid JSON"),
        ("a second object", good + b"{}", "not valid JSON"),
        ("no tensors", b"{}", "holds no tensors"),
        ("metadata only", b'{"__metadata__": {"format": "pt"}}', "holds no tensors"),
        ("deep objects", deep[:LIMIT], "more than 20000 tensors"),
        ("9,000 deep objects", b'{"a":' * 9_000 + b"}" * 9_000, "nested too deeply"),
        ("2 MiB of brackets", b"{" + b"[" * (LIMIT - 1), "more than 20000 tensors"),
        ("2 MiB of one number", b'{"a":' + b"1" * (LIMIT - 6) + b"}", "not valid JSON"),
        ("2 MiB of one name", b'{"' + b"a" * (LIMIT - 8) + b'": 0}', "characters other than"),
        ("a million escapes", b'{"' + b"\\u0000" * 340_000 + b'": 0}', "characters other than"),
        ("NaN", b'{"a": NaN}', "NaN"),
        ("120,000 numbers as tensors", _many(120_000, b"0"), "more than 20000 tensors"),
        ("40,000 empty objects", _many(39_000, b"{}"), "more than 20000 tensors"),
        ("20,000 lists", _many(19_999, b"[]"), "exactly dtype, shape"),
        ("metadata of numbers", _with(good, b'"__metadata__": {"a": 1}'), "strings only"),
        ("nested metadata", _with(good, b'"__metadata__": {"a": {"b": "c"}}'), "strings only"),
        ("metadata as a list", _with(good, b'"__metadata__": []'), "strings only"),
        ("metadata twice", _with(good, b'"__metadata__": {}, "__metadata__": {}'), "twice"),
        ("a tensor twice", _with(good, b'"' + _A.encode() + b'": 0'), "twice"),
        ("an inner key twice", good.replace(b'{"dtype"', b'{"shape": [1], "dtype"', 1), "twice"),
    ):
        yield f"header with {name}", file_of(header, data), says


def _many(count: int, value: bytes) -> bytes:
    return b"{" + b",".join(b'"%x":%b' % (i, value) for i in range(count)) + b"}"


def _with(header: bytes, entry: bytes) -> bytes:
    return header[:-1] + b", " + entry + b"}"


def _entries() -> Iterator[tuple[str, bytes, str]]:
    def spoilt(**changes: object) -> bytes:
        header = header_of(good_tensors())
        entry = header[_A]
        assert isinstance(entry, dict)
        header[_A] = {k: v for k, v in {**entry, **changes}.items() if v is not ...}
        return file_of(header, b"".join(tensor.data for tensor in good_tensors().values()))

    for value in (
        "F64",
        "I8",
        "BOOL",
        "F8_E4M3",
        "f32",
        "float32",
        "../F32",
        "F32\0",
        5,
        None,
        ["F32"],
    ):
        yield f"dtype {value!r}", spoilt(dtype=value), "has dtype"
    for shape in (
        [-1, 16], [2.0, 16], [True, 16], ["2", 16], [2**31, 1], [2**64], [None], {"0": 2}, "2", None,
        [1] * 9, [[2, 16]], [10**30, 16],
    ):  # fmt: skip
        yield f"shape {str(shape)[:30]}", spoilt(shape=shape), "invalid shape"
    for empty in ([0, 2**30], [0, 16], [2, 0], [0]):
        yield f"shape {empty}", spoilt(shape=empty), "is empty"
    for shape in ([RANK, 17], [2**31 - 1] * 8, [], [2**16, 2**16, 2**16, 2**16]):
        yield f"shape {str(shape)[:40]}", spoilt(shape=shape), "does not fill"
    for offsets in (
        [-4, 124],
        [0.0, 128],
        [0],
        [0, 128, 256],
        [0, 2**63],
        None,
        "0-128",
        [True, 1],
    ):
        yield f"offsets {offsets}", spoilt(data_offsets=offsets), "invalid data_offsets"
    for offsets in ([128, 0], [0, 2**62], [0, 127], [0, 0]):
        yield f"offsets {offsets}", spoilt(data_offsets=offsets), "does not fill"
    yield "an extra key", spoilt(path="/etc/passwd"), "exactly dtype"
    yield "a missing key", spoilt(dtype=...), "exactly dtype"
    for name in (
        "../../etc/passwd", "/etc/passwd", "a\0b", "a\nb", "a b", "%2e%2e", "\u202egnp.A", "",
        f"{PREFIX}model.l\u0430yers.0.self_attn.q_proj.lora_A.weight", "\ud800", "a" * 513, "C:\\x",
        "{{7*7}}", "$(id)", "'; DROP TABLE adapter; --",
    ):  # fmt: skip
        tensors = {**good_tensors(), name: Tensor((1, 1))}
        yield f"name {ascii(name)[:30]}", good_file(tensors), "characters other than"


def _ranges() -> Iterator[tuple[str, bytes, str]]:
    good, data = header_of(good_tensors()), b"".join(t.data for t in good_tensors().values())
    half = len(data) // 2

    def moved(first: int, last: int) -> bytes:
        entry = good[_B]
        assert isinstance(entry, dict)
        return file_of({**good, _B: {**entry, "data_offsets": [first, last]}}, data)

    yield "the same bytes twice", moved(0, half), "overlaps"
    yield "overlapping bytes", moved(half - 4, 2 * half - 4), "overlaps"
    yield "a hole", moved(half + 4, 2 * half + 4), "leaves a hole"
    yield "a far hole", moved(2**62, 2**62 + half), "leaves a hole"
    yield "one byte less", good_file()[:-1], "truncated"
    yield "one byte more", good_file() + b"\0", "longer than its tensors"
    yield "no data at all", file_of(good, b""), "truncated"
    yield "16 TiB announced in the header", _promise(2**22, 2**20), "truncated"


def _promise(rows: int, columns: int) -> bytes:
    size = 4 * rows * columns
    entry = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [0, size]}
    return file_of({_A: entry}, b"")


def _tensors() -> Iterator[tuple[str, bytes, str, str]]:
    a, b = Tensor((RANK, 16)), Tensor((16, RANK))
    good = {_A: a, _B: b}
    row, head, delta = (
        Tensor((16,)),
        Tensor((64, 16)),
        f"{PREFIX}model.embed_tokens.trainable_tokens_delta",
    )
    base = ".base_layer.weight"
    for name, tensors, field, says in (
        ("no LoRA", {"a.weight": a}, "weights", "not a LoRA tensor"),
        ("A alone", {_A: a}, "weights", "but no lora_B"),
        ("B alone", {_B: b}, "weights", "but no lora_A"),
        ("no module", {f"{PREFIX}lora_A.weight": a}, "weights", "not a LoRA tensor"),
        ("a layer that is not there", _pair("model.layers.80.self_attn.q_proj"), "weights", "does not have"),
        ("a negative layer", _pair("model.layers.-1.self_attn.q_proj"), "weights", "does not have"),
        ("a layer written oddly", _pair("model.layers.00.self_attn.q_proj"), "weights", "does not have"),
        ("a module that is not there", _pair("model.layers.0.self_attn.evil"), "weights", "does not have"),
        ("a dunder", _pair("model.__class__.__init__"), "weights", "does not have"),
        ("a norm", _pair("model.layers.0.input_layernorm"), "weights", "does not have"),
        ("dots alone", _pair("...."), "weights", "does not have"),
        ("one matrix twice", {**good, f"{_Q}.lora_A.default.weight": a}, "weights", "the same matrix"),
        ("a second adapter", {**good, f"{_Q}.lora_A.evil.weight": a}, "weights", "not a LoRA tensor"),
        ("more behind the name", {f"{_A}.weight": a}, "weights", "not a LoRA tensor"),
        ("an embedding's on a linear", _embedding(f"{_Q}"), "weights", "not that kind"),
        ("a linear's on an embedding", _pair("model.embed_tokens"), "weights", "not that kind"),
        ("A turned", {_A: Tensor((16, RANK)), _B: b}, "weights", "needs [rank, 16]"),
        ("B turned", {_A: a, _B: Tensor((RANK, 16))}, "weights", "needs [16, rank]"),
        ("A of one dimension", {_A: row, _B: b}, "weights", "needs [rank, 16]"),
        ("A of three dimensions", {_A: Tensor((RANK, 4, 4)), _B: b}, "weights", "needs [rank, 16]"),
        ("unequal ranks", {_A: Tensor((4, 16)), _B: b}, "weights", "different ranks"),
        ("another rank than r", {_A: Tensor((4, 16)), _B: Tensor((16, 4))}, "r", "have rank 4"),
        ("rank 100,000", {_A: Tensor((100_000, 16)), _B: Tensor((16, 100_000))}, "r", "have rank"),
        ("a magnitude", {**good, f"{_Q}.lora_magnitude_vector": row}, "use_dora", "DoRA"),
        ("a trained bias", {**good, f"{_Q}.bias": row}, "bias", "trained bias"),
        ("a bias on B", {**good, f"{_Q}.lora_B.bias": row}, "lora_bias", "lora_B"),
        ("trained tokens", {**good, delta: a},
         "trainable_token_indices", "token rows"),
        ("a whole weight", {**good, f"{PREFIX}lm_head.weight": head},
         "modules_to_save", "whole base weight"),
        ("a replaced weight", {**good, f"{PREFIX}lm_head{base}": head}, "weights", "replaces a base"),
        ("a replaced weight of another size", {**good, f"{_Q}{base}": head}, "weights", "resize"),
        ("a replaced weight of no module", {**good, f"{PREFIX}evil{base}": a}, "weights", "no module"),
    ):  # fmt: skip
        yield name, good_file(tensors), field, says


def _pair(module: str) -> dict[str, Tensor]:
    name = f"{PREFIX}{module}"
    return {
        f"{name}.lora_A.weight": Tensor((RANK, 16)),
        f"{name}.lora_B.weight": Tensor((16, RANK)),
    }


def _embedding(name: str) -> dict[str, Tensor]:
    return {
        f"{name}.lora_embedding_A": Tensor((RANK, 16)),
        f"{name}.lora_embedding_B": Tensor((16, RANK)),
    }


def _values() -> Iterator[tuple[str, bytes, str]]:
    for dtype, width, values in (
        ("F32", 4, ((0x7FC00000, "NaN"), (0xFFC00001, "NaN"), (0x7F800001, "NaN"),
                    (0x7F800000, "infinite"), (0xFF800000, "infinite"),
                    (0x7F7FFFFF, "beyond 32768"), (0xC7000001, "beyond 32768"))),
        ("F16", 2, ((0x7E00, "NaN"), (0xFC00, "infinite"), (0x7BFF, "beyond 32768"))),
        ("BF16", 2, ((0xFFC0, "NaN"), (0x7F80, "infinite"), (0x7F7F, "beyond 32768"))),
    ):  # fmt: skip
        for bits, says in values:
            tensors = {
                name: Tensor(tensor.shape, dtype, bytes(width))
                for name, tensor in good_tensors().items()
            }
            file = good_file(tensors)
            spoilt = file[:-width] + bits.to_bytes(width, "little")
            yield f"the last value {dtype} {bits:#x}", spoilt, says


def _large() -> Iterator[Attack]:
    """What is too large to lie about: the refusal comes long before its end."""

    def endless(head: bytes, piece: bytes, count: int) -> Callable[[], Iterator[bytes]]:
        def pieces() -> Iterator[bytes]:
            yield head
            for _ in range(count):
                yield piece

        return pieces

    spaces = struct.pack("<Q", 99_000_000) + b"{}"
    config = good_config()
    for name, weights, size, says in (
        ("99 MB of spaces", endless(spaces, b" " * _MIB, 94), 99_000_008, "announces a header"),
        ("800,000 empty tensors", _empty_tensors, None, "announces a header"),
        (
            "16 GiB of zeros",
            endless(bytes(8), bytes(_MIB), 16 * 1024),
            16 * 1024**3,
            "no safetensors",
        ),
        (
            "1 GiB behind the last tensor",
            endless(good_file(), bytes(_MIB), 1024),
            None,
            "bytes behind",
        ),
        ("a header one byte at a time", _byte_by_byte, None, "overlaps"),
    ):
        yield Attack(f"weights: {name}", config, weights, size, "weights", says)


def _empty_tensors() -> Iterator[bytes]:
    entry = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
    body = b"{" + b"".join(entry % i for i in range(800_000))[:-1] + b"}"
    yield struct.pack("<Q", len(body))
    yield body


def _byte_by_byte() -> Iterator[bytes]:
    """As many tensors as there may be, all at one place, and as slowly as it can come."""
    entry = b'"%x":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},'
    body = b"{" + b"".join(entry % i for i in range(19_999))[:-1] + b"}"
    file = struct.pack("<Q", len(body)) + body
    for start in range(0, len(file), 997):
        yield file[start : start + 997]

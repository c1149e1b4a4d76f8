"""Owns the OpenAPI of routes that read their body themselves, so that Litestar cannot derive it."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from loraplex.platform.body_schema import body_of, object_schema, text_fields
from loraplex.platform.catalog.golden import MAX_EXPECTED, MAX_TOKENS, MOST
from loraplex.platform.catalog.splits import MAX_VERSIONS
from loraplex.platform.catalog.version_number import MAX_VERSION

_NUMBERS = (
    "temperature",
    "top_p",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
)
_CHOICES = {
    "base": "base model id; needed when several are served",
    "alias": "alias that shall name the new version",
    "chat_template": "Jinja template in place of the base model's",
}
_DEFAULTS = Schema(
    type=OpenAPIType.OBJECT,
    properties={
        **{name: Schema(type=OpenAPIType.NUMBER) for name in _NUMBERS},
        **{name: Schema(type=OpenAPIType.INTEGER) for name in ("top_k", "max_tokens", "seed")},
        "stop": Schema(
            type=[OpenAPIType.STRING, OpenAPIType.ARRAY], items=Schema(type=OpenAPIType.STRING)
        ),
    },
    description="what a request to the version gets that leaves a field out",
)
_GOLDEN = Schema(
    type=OpenAPIType.ARRAY,
    max_items=MOST,
    items=object_schema(
        {
            "prompt": Schema(
                type=[OpenAPIType.STRING, OpenAPIType.ARRAY], items=Schema(type=OpenAPIType.INTEGER)
            ),
            "messages": Schema(
                type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.OBJECT), min_items=1
            ),
            "max_tokens": Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=MAX_TOKENS),
            "expected": Schema(
                type=OpenAPIType.STRING,
                max_length=MAX_EXPECTED,
                description="if left out, the first answer is recorded",
            ),
        },
        required=[],
    ),
    description="prompts with their answers, asked again whenever an engine has loaded the version",
)
_SPLIT = Schema(
    type=OpenAPIType.OBJECT,
    additional_properties=Schema(type=OpenAPIType.NUMBER, exclusive_minimum=0),
    min_properties=1,
    max_properties=MAX_VERSIONS,
    description="weights by version number",
)
_VERSION = Schema(
    type=OpenAPIType.INTEGER, minimum=1, maximum=MAX_VERSION, description="number of the version"
)
_EXPECTED = Schema(
    description="what it must name now: a version, a split, or null for no such alias",
    one_of=[Schema(type=OpenAPIType.INTEGER), _SPLIT, Schema(type=OpenAPIType.NULL)],
)


@dataclass
class PushOperation(Operation):
    """An adapter in one multipart body."""

    def __post_init__(self) -> None:
        files = {"config": "adapter_config.json", "weights": "adapter_model.safetensors"}
        texts = {
            "parent": "number of the version this one was made from",
            "defaults": "sampling parameters as JSON, see OpenUpload",
            "golden": "golden prompts as JSON, see OpenUpload",
        }
        fields = text_fields({"name": "adapter name", **files, **_CHOICES, **texts})
        schema = object_schema(fields, required=["name", *files])
        self.request_body = body_of("multipart/form-data", schema)


@dataclass
class OpenUploadOperation(Operation):
    """The announcement of a resumable upload."""

    def __post_init__(self) -> None:
        sha256 = "of the weights file, 64 lower-case hex digits"
        fields = text_fields({"name": "adapter name", "sha256": sha256, **_CHOICES})
        fields["size"] = Schema(
            type=OpenAPIType.INTEGER, minimum=1, description="bytes of the weights file"
        )
        fields["config"] = Schema(
            type=[OpenAPIType.STRING, OpenAPIType.OBJECT],
            description="adapter_config.json, as text or as JSON",
        )
        fields |= {"parent": _VERSION, "defaults": _DEFAULTS, "golden": _GOLDEN}
        schema = object_schema(fields, required=["name", "size", "sha256", "config"])
        self.request_body = body_of("application/json", schema)


@dataclass
class SendUploadOperation(Operation):
    """Raw bytes."""

    def __post_init__(self) -> None:
        schema = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
        self.request_body = body_of("application/octet-stream", schema)


@dataclass
class SetAliasOperation(Operation):
    """What an alias shall name."""

    def __post_init__(self) -> None:
        fields = {"version": _VERSION, "split": _SPLIT, "expected": _EXPECTED}
        self.request_body = body_of("application/json", object_schema(fields, required=[]))


@dataclass
class RollBackAliasOperation(Operation):
    """What an alias is believed to name."""

    def __post_init__(self) -> None:
        schema = object_schema({"expected": _EXPECTED}, required=[])
        self.request_body = body_of("application/json", schema)
        self.request_body.required = False


@dataclass
class SetGoldenOperation(Operation):
    """The golden prompts of a version."""

    def __post_init__(self) -> None:
        schema = object_schema({"golden": _GOLDEN}, required=["golden"])
        self.request_body = body_of("application/json", schema)


@dataclass
class ChangeAdapterOperation(Operation):
    """What can be changed about an adapter."""

    def __post_init__(self) -> None:
        fields = {
            "pinned": Schema(
                type=OpenAPIType.BOOLEAN,
                description="operators only: keep what its name and aliases mean on the device",
            ),
            "max_running": Schema(
                type=[OpenAPIType.INTEGER, OpenAPIType.NULL],
                minimum=1,
                maximum=1_000_000,
                description="most requests for one version an engine works on at once; null: no limit",
            ),
        }
        self.request_body = body_of("application/json", object_schema(fields, required=[]))

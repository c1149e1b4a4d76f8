"""Owns the OpenAPI document: what it says of itself, and of the errors that every route may answer with."""

from typing import Any

from litestar import MediaType, Request, Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

import loraplex
from loraplex.platform.accounts.cookies import SESSION
from loraplex.platform.error_responses import is_anthropic_path, is_openai_path

_TEXT, _NUMBER = {"type": "string"}, {"type": "integer"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
SCHEMAS: dict[str, dict[str, Any]] = {
    "Problem": {
        "description": "An error of the management API (RFC 9457). `detail` says what is wrong and what to do.",
        "type": "object",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": _TEXT,
            "title": _TEXT,
            "status": _NUMBER,
            "detail": _TEXT,
            "code": _TEXT_OR_NULL,
            "param": {**_TEXT, "description": "the field at fault"},
            "report": {"type": "object", "description": "of an adapter that was refused"},
        },
    },
    "OpenAIError": {
        "description": "An error as OpenAI's clients read it.",
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": _TEXT,
                    "type": _TEXT,
                    "param": _TEXT_OR_NULL,
                    "code": _TEXT_OR_NULL,
                },
            }
        },
    },
    "AnthropicError": {
        "description": "An error as Anthropic's clients read it.",
        "type": "object",
        "required": ["type", "error", "request_id"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": _TEXT, "message": _TEXT},
            },
            "request_id": _TEXT,
        },
    },
}
_PROBLEM = ("application/problem+json", "Problem")
_OPENAI = ("application/json", "OpenAIError")
_ANTHROPIC = ("application/json", "AnthropicError")


class _Document(JsonRenderPlugin):
    """Litestar describes the errors it would answer with itself; ours have one shape, and any route may have them."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, with_errors(openapi_schema))


def with_errors(document: dict[str, Any]) -> dict[str, Any]:
    """The document with our errors in place of the framework's."""
    paths = {
        path: {method: _described(path, operation) for method, operation in item.items()}
        for path, item in document["paths"].items()
    }
    components = document.get("components", {})
    schemas = {**components.get("schemas", {}), **SCHEMAS}
    return {**document, "paths": paths, "components": {**components, "schemas": schemas}}


def _described(path: str, operation: Any) -> Any:
    if not isinstance(operation, dict) or "responses" not in operation:
        return operation
    media_type, schema = _OPENAI if is_openai_path(path) else _PROBLEM
    if is_anthropic_path(path):
        media_type, schema = _ANTHROPIC
    content = {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    kept = {
        status: described
        for status, described in operation["responses"].items()
        # Of those with a body, such as of /ready, what they say of it stays.
        if not status.startswith(("4", "5")) or not _is_frameworks(described)
    }
    return {**operation, "responses": {**kept, "default": _error(content)}}


def _error(content: dict[str, Any]) -> dict[str, Any]:
    return {"description": "An error", "content": content}


def _is_frameworks(described: dict[str, Any]) -> bool:
    schemas = [each.get("schema", {}) for each in described.get("content", {}).values()]
    return any("status_code" in schema.get("properties", {}) for schema in schemas)


def openapi_config() -> OpenAPIConfig:
    """Only the document itself: every viewer Litestar knows loads its scripts from elsewhere."""
    return OpenAPIConfig(
        title="loraplex",
        version=loraplex.__version__,
        description=loraplex.__doc__,
        render_plugins=[_Document(media_type=MediaType.JSON)],
        openapi_router=Router(
            "/schema", route_handlers=[], include_in_schema=False, opt={"public": True}
        ),
        components=Components(
            security_schemes={
                "key": SecurityScheme(type="http", scheme="bearer"),
                "session": SecurityScheme(type="apiKey", name=SESSION, security_scheme_in="cookie"),
            }
        ),
        security=[{"key": []}, {"session": []}],
    )

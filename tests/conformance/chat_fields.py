"""Owns what the fields of chats are shown with."""

from conformance.judged import Ask, Json

BAD, CANNOT, MISSING = "invalid_value", "unsupported_value", "missing_required_parameter"
MESSAGES = [{"role": "user", "content": "Once upon"}]
FUNCTION = {
    "name": "f",
    "parameters": {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}},
        "required": ["sure"],
        "additionalProperties": False,
    },
}
TOOL = {"type": "function", "function": {**FUNCTION, "strict": True}}
TOOLS = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
CALLING = {"ignore_eos": False, "max_completion_tokens": 80}  # long enough for a call


def tokens(ask: Ask, *messages: Json, **fields: Json) -> int:
    """Of the prompt that messages make, each a byte; the template writes all that messages have."""
    told = {"messages": list(messages)} if messages else {}
    usage = ask(**told, **fields, max_completion_tokens=1)["usage"]
    return int(usage["prompt_tokens"])


def chosen(ask: Ask, **fields: Json) -> Json:
    """The choice of an answer that is long enough for a call."""
    return ask(**CALLING, **fields)["choices"][0]

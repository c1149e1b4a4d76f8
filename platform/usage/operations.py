"""Owns the OpenAPI of routes whose parameters can be repeated under two names, as OpenAI's are."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation, Parameter, Schema
from litestar.openapi.spec.enums import OpenAPIType


@dataclass
class OrganizationOperation(Operation):
    """Parameters that can be repeated; the names may end in `[]`."""

    def __post_init__(self) -> None:
        texts = Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.STRING))
        described = {
            "group_by": "project_id, user_id, api_key_id, model",
            "project_ids": "names of tenants",
            "user_ids": "ids of users",
            "api_key_ids": "ids of keys",
            "models": "names of adapters and base models",
        }
        self.parameters = [
            *(self.parameters or []),
            *(
                Parameter(name=name, param_in="query", schema=texts, description=text)
                for name, text in described.items()
            ),
        ]

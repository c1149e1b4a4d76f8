"""Owns the OpenAPI of the route that begins imports: it reads its body itself."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType

from loraplex.platform.body_schema import body_of, object_schema, text_fields


@dataclass
class ImportOperation(Operation):
    """What to import, from where, and as what."""

    def __post_init__(self) -> None:
        hub = text_fields(
            {
                "repo": "org/name",
                "revision": "branch, tag or commit; main if left out",
                "subfolder": "folder of the repository",
                "token": "for this import alone; it is not stored",
            }
        )
        credentials = text_fields(
            {
                "access_key_id": "for this import alone; none of these is stored",
                "secret_access_key": "the secret half",
                "session_token": "of temporary credentials",
            }
        )
        s3 = text_fields(
            {
                "bucket": "name of the bucket",
                "prefix": "what the keys of both objects begin with",
                "region": "us-east-1 if left out",
                "endpoint": "another store than Amazon's, if the operator allows it",
            }
        )
        s3["credentials"] = object_schema(credentials, ["access_key_id", "secret_access_key"])
        source = object_schema(
            {
                "huggingface": object_schema(hub, ["repo"]),
                "s3": object_schema(s3, ["bucket"]),
                "path": Schema(
                    type=OpenAPIType.STRING,
                    description="operators only: a directory under the server's --import-dir",
                ),
            },
            required=[],
        )
        fields = text_fields(
            {
                "name": "adapter name",
                "alias": "alias that shall name the new version",
                "base": "base model id; needed when several are served",
            }
        )
        fields["source"] = source
        schema = object_schema(fields, required=["name", "source"])
        self.request_body = body_of("application/json", schema)

"""Owns the JSON of imports. Secrets are told apart from the rest here: they are neither stored nor logged."""

from typing import Annotated

from msgspec import Meta, Struct, structs

from loraplex.platform.imports.signing import Credentials

Text = Annotated[str, Meta(max_length=1024)]


class HubSource(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A repository of the Hugging Face Hub; `subfolder` where the adapter is not at its top."""

    repo: Text
    revision: Text = "main"
    subfolder: Text = ""
    token: Text | None = None


class S3Credentials(Struct, forbid_unknown_fields=True):
    """Of somebody who may read the objects."""

    access_key_id: Text
    secret_access_key: Text
    session_token: Annotated[str, Meta(max_length=8192)] | None = None


class S3Source(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Two objects under a prefix of a bucket; without credentials they must be public."""

    bucket: Text
    prefix: Text = ""
    region: Text = "us-east-1"
    endpoint: Text | None = None
    credentials: S3Credentials | None = None


class ImportSource(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Exactly one of these."""

    huggingface: HubSource | None = None
    s3: S3Source | None = None
    path: Text | None = None


class ImportCreate(Struct, forbid_unknown_fields=True):
    """An adapter to fetch: as a new version of `name`."""

    name: str
    source: ImportSource
    alias: str | None = None
    base: str | None = None


class Asker(Struct):
    """Who asked for an import, as its version and the audit trail keep it."""

    name: str
    address: str
    operator: bool


class Secrets(Struct, frozen=True):
    """What an import must know and nobody else."""

    token: str | None = None
    credentials: Credentials | None = None

    def __repr__(self) -> str:
        return "Secrets(...)"


def split_secrets(source: ImportSource) -> tuple[ImportSource, Secrets | None]:
    """A source without its secrets, and these, if it has any."""
    if source.huggingface is not None and source.huggingface.token is not None:
        hub = structs.replace(source.huggingface, token=None)
        return ImportSource(huggingface=hub), Secrets(token=source.huggingface.token)
    if source.s3 is not None and source.s3.credentials is not None:
        given = source.s3.credentials
        credentials = Credentials(
            given.access_key_id, given.secret_access_key, given.session_token or None
        )
        bucket = structs.replace(source.s3, credentials=None)
        return ImportSource(s3=bucket), Secrets(credentials=credentials)
    return source, None

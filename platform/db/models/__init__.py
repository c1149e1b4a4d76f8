"""The tables, by what they are about. Imported as one, so that `Base.metadata` is always whole."""

from loraplex.platform.db.models.accounts import (
    Membership,
    OneTimeCode,
    SignInThrottle,
    User,
    UserSession,
)
from loraplex.platform.db.models.catalog import (
    Adapter,
    AdapterAlias,
    AdapterVersion,
    Blob,
    BlobChunk,
    BlobState,
    GoldenPrompt,
    Upload,
    WarmAdapter,
)
from loraplex.platform.db.models.files import Batch, BatchResult, File, FilePart, FileUpload
from loraplex.platform.db.models.operations import AuditEntry, Job, Webhook, WebhookDelivery
from loraplex.platform.db.models.responses import StoredResponse
from loraplex.platform.db.models.tenancy import ApiKey, Tenant
from loraplex.platform.db.models.usage import (
    ApiWorker,
    LedgerEntry,
    Limit,
    Meter,
    Price,
    UsageRollup,
)

__all__ = [
    "Adapter",
    "AdapterAlias",
    "AdapterVersion",
    "ApiKey",
    "ApiWorker",
    "AuditEntry",
    "Batch",
    "BatchResult",
    "Blob",
    "BlobChunk",
    "BlobState",
    "File",
    "FilePart",
    "FileUpload",
    "GoldenPrompt",
    "Job",
    "LedgerEntry",
    "Limit",
    "Membership",
    "Meter",
    "OneTimeCode",
    "Price",
    "SignInThrottle",
    "StoredResponse",
    "Tenant",
    "Upload",
    "UsageRollup",
    "User",
    "UserSession",
    "WarmAdapter",
    "Webhook",
    "WebhookDelivery",
]

"""Owns the list of everything an API worker answers: a line per controller or handler."""

from loraplex.platform.accounts.compose import HANDLERS
from loraplex.platform.audit.controller import AuditController
from loraplex.platform.batches.controller import BatchController
from loraplex.platform.catalog.alias_controller import AliasController
from loraplex.platform.catalog.controller import AdapterController
from loraplex.platform.catalog.download_controller import DownloadController
from loraplex.platform.catalog.golden_controller import GoldenController
from loraplex.platform.catalog.upload_controller import UploadController
from loraplex.platform.dashboard import asset, page
from loraplex.platform.events.controller import events
from loraplex.platform.files.controller import FileController
from loraplex.platform.files.upload_controller import FileUploadController
from loraplex.platform.health import health, metrics, ready
from loraplex.platform.imports.controller import ImportController
from loraplex.platform.inference.controller import InferenceController
from loraplex.platform.inference.embedding_controller import EmbeddingController
from loraplex.platform.inference.playground import PlaygroundController
from loraplex.platform.inference.tokenize_controller import TokenizeController
from loraplex.platform.jobs.controller import JobController
from loraplex.platform.ledger.controller import LedgerController
from loraplex.platform.limits.controller import LimitController
from loraplex.platform.limits.price_controller import AdapterPriceController, PriceController
from loraplex.platform.messages.controller import MessageController
from loraplex.platform.residency.controller import engine_state
from loraplex.platform.responses.controller import ResponseController
from loraplex.platform.storage.controller import collect, stored
from loraplex.platform.tenants.controller import TenantController
from loraplex.platform.tenants.key_controller import KeyController, OperatorKeyController
from loraplex.platform.usage.controller import UsageController
from loraplex.platform.usage.organization_controller import OrganizationController
from loraplex.platform.webhooks.controller import WebhookController

ROUTES = (
    page,
    asset,
    health,
    ready,
    metrics,
    *HANDLERS,
    TenantController,
    KeyController,
    OperatorKeyController,
    LimitController,
    PriceController,
    AdapterPriceController,
    AdapterController,
    AliasController,
    GoldenController,
    UploadController,
    DownloadController,
    ImportController,
    JobController,
    stored,
    collect,
    InferenceController,
    PlaygroundController,
    EmbeddingController,
    TokenizeController,
    ResponseController,
    MessageController,
    FileController,
    FileUploadController,
    BatchController,
    LedgerController,
    UsageController,
    OrganizationController,
    engine_state,
    events,
    AuditController,
    WebhookController,
)

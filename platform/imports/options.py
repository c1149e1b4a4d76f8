"""Owns what the operator allows imports to reach."""

from dataclasses import dataclass, field
from pathlib import Path

import httpx

from loraplex.platform.outbound import Outbound
from loraplex.platform.settings import Settings


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Where imports may come from.

    Attributes:
        hf_endpoint: the Hub or a mirror of it, without a slash at its end.
        hf_token: the operator's own, for repositories all tenants may import; None for public ones only.
        folder: the directory whose adapters operators may import; None for none.
        hosts: names beyond the public internet that may be asked, and as endpoints of S3.
        spool: directory for files on their way.
    """

    hf_endpoint: str
    folder: Path | None
    hosts: tuple[str, ...]
    spool: Path
    hf_token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> "ImportOptions":
        """Those of a service."""
        return cls(
            hf_endpoint=settings.hf_endpoint.rstrip("/"),
            folder=settings.import_dir,
            hosts=settings.import_allow_hosts,
            spool=settings.data_dir / "spool",
            hf_token=settings.hf_token,
        )

    def outbound(self) -> Outbound:
        """What asks. The operator's own hosts may be in a private network and speak plain HTTP."""
        hub = httpx.URL(self.hf_endpoint)
        return Outbound(
            allow_http=bool(self.hosts) or hub.scheme == "http",
            allow_hosts=(*self.hosts, hub.host),
        )

"""Builds what is installed and published: setuptools', after the dashboard has been built.

Wheels and source archives carry the built dashboard, so whoever installs one needs no Node. Where the machine that
builds has none, it comes from its package for Python. Editable installs leave the dashboard to `make web`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401 - the rest of the interface
    build_editable,
    get_requires_for_build_editable,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

WEB = Path(__file__).parent / "web"

Settings = dict[str, str | list[str] | None] | None


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    return build_meta.get_requires_for_build_wheel(config_settings) + _node()


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    return build_meta.get_requires_for_build_sdist(config_settings) + _node()


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    _build_dashboard()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    _build_dashboard()
    return build_meta.build_sdist(sdist_directory, config_settings)


def _can_build() -> bool:
    """A source archive has the built files only."""
    return (WEB / "src" / "main.tsx").is_file()


def _node() -> list[str]:
    if not _can_build() or shutil.which("npm") is not None:
        return []
    return (WEB / "node.txt").read_text().split()


def _build_dashboard() -> None:
    if not _can_build():
        return
    # Scripts of a build's own requirements lie beside its interpreter or on its path.
    path = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    for command in (["ci", "--no-audit", "--no-fund"], ["run", "types"], ["run", "build"]):
        npm = shutil.which("npm", path=path)
        if npm is None:
            raise SystemExit(
                "The dashboard cannot be built without npm: install Node 20.19 or newer."
            )
        subprocess.run([npm, *command], cwd=WEB, check=True, env={**os.environ, "PATH": path})  # noqa: S603 - fixed words

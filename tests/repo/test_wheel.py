"""What is installed from a wheel: every part of the package, and the built dashboard without its sources."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("kernels", "engine", "adapters", "platform", "migrations", "web", "src")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files in a wheel of a copy of this tree."""
    if not (ROOT / "web" / "node_modules").is_dir():
        pytest.skip("needs what the dashboard is built with (make web)")
    copy = tmp_path_factory.mktemp("wheel") / "copy"
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("node_modules", "dist", "__pycache__", "*.egg-info")
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=ignored)
    for file in (
        "pyproject.toml",
        "build_backend.py",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
        "constraints.txt",
    ):
        shutil.copy(ROOT / file, copy / file)
    # The same files, but a folder of its own: a build that installs afresh begins by deleting it.
    shutil.copytree(
        ROOT / "web" / "node_modules",
        copy / "web" / "node_modules",
        symlinks=True,
        copy_function=os.link,
    )
    code = "import build_backend; print(build_backend.build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(zipfile.ZipFile(copy / done.stdout.splitlines()[-1]).namelist())


def test_a_wheel_has_the_dashboard_and_nothing_it_is_built_from(names: set[str]) -> None:
    assert "loraplex/web/dist/index.html" in names
    assert any(
        name.startswith("loraplex/web/dist/assets/") and name.endswith(".js") for name in names
    )
    unwanted = ("node_modules", ".tsx", "package.json", "openapi.json", "tests/")
    assert [name for name in names if any(part in name for part in unwanted)] == []


def test_a_wheel_has_every_module(names: set[str]) -> None:
    for folder in FOLDERS[:5]:
        for file in (ROOT / folder).rglob("*.py"):
            assert f"loraplex/{file.relative_to(ROOT)}" in names
    assert {"loraplex/__main__.py", "loraplex/py.typed"} <= names

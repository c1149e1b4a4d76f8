"""What the folder layout promises: importable everywhere, nothing shadows the standard library, imports point down."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP_FOLDERS = ("adapters", "engine", "kernels", "migrations", "platform", "web")
# What each layer may import of this project, and which outside packages the two lowest may use.
MAY_IMPORT = {
    "kernels": {"kernels"},
    "engine": {"kernels", "engine"},
    "adapters": {"kernels", "engine", "adapters"},
}
OUTSIDE = {
    "kernels": {"torch", "triton", "numpy"},
    # tokenizers is what fast tokenizers are made of; it does not import torch. xgrammar compiles grammars.
    "engine": {
        "torch",
        "triton",
        "transformers",
        "safetensors",
        "numpy",
        "tokenizers",
        "xgrammar",
    },
    "adapters": {"torch", "safetensors", "numpy", "re2"},
}


def python_files(folder: str) -> list[Path]:
    return [p for p in (ROOT / folder).rglob("*.py") if "node_modules" not in p.parts]


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative import"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def test_src_links_every_top_folder() -> None:
    links = {p.name for p in (ROOT / "src" / "loraplex").iterdir() if p.is_symlink()}
    assert links == set(TOP_FOLDERS)


def test_no_init_directly_in_a_top_folder() -> None:
    assert not [
        folder for folder in (*TOP_FOLDERS, "tests") if (ROOT / folder / "__init__.py").exists()
    ]


def test_subfolders_of_code_are_packages() -> None:
    missing = [
        folder
        for top in ("adapters", "engine", "kernels", "platform")
        for folder in {file.parent for file in python_files(top)} - {ROOT / top}
        if not (folder / "__init__.py").exists()
    ]
    assert missing == []


def test_standard_library_platform_wins_from_the_root() -> None:
    code = "import platform; assert platform.system()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_no_file_is_named_like_a_standard_module() -> None:
    named = [
        file
        for top in TOP_FOLDERS
        for file in python_files(top)
        if file.stem in sys.stdlib_module_names and file.stem != "__init__"
    ]
    assert named == []


@pytest.mark.parametrize("layer", list(MAY_IMPORT))
def test_imports_point_down(layer: str) -> None:
    for file in python_files(layer):
        for name in imported(file):
            if name.startswith("loraplex.") and name != "loraplex.engine":
                assert name.split(".")[1] in MAY_IMPORT[layer], f"{file} imports {name}"


@pytest.mark.parametrize("layer", list(OUTSIDE))
def test_lower_layers_use_few_packages(layer: str) -> None:
    for file in python_files(layer):
        for name in imported(file):
            top = name.split(".")[0]
            known = top in sys.stdlib_module_names or top in OUTSIDE[layer] or top == "loraplex"
            assert known, f"{file} imports {name}"


def test_light_modules_stay_light() -> None:
    """What API workers and the supervisor import of the lower layers carries no torch; tests/platform/engines looks at
    whole processes."""
    light = [
        "loraplex",
        "loraplex.engine.model_config",
        "loraplex.engine.request",
        "loraplex.engine.config",
        "loraplex.engine.tokenizer",
        "loraplex.adapters.admission",
    ]
    lines = [
        f"import {module}; 'torch' in sys.modules and sys.exit('{module}')" for module in light
    ]
    program = "\n".join(["import sys", *lines])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

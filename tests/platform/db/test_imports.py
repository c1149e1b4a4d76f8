"""The engine process reads weights from the database: what it imports for that stays small."""

import subprocess
import sys


def test_the_database_needs_neither_the_web_framework_nor_torch() -> None:
    code = (
        "import sys, loraplex.platform.db.loader_blobs, loraplex.platform.db.migrate;"
        "print([n for n in ('litestar', 'torch', 'uvicorn', 'numpy') if n in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"

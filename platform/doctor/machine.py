"""Owns looking at the machine: device, limits of the system, the data directory, the base models."""

import os
import resource
import shutil
import stat
from pathlib import Path

from loraplex.engine.model_config import ModelConfig, UnsupportedModelError
from loraplex.platform.doctor.report import Check, failure, ok, warning
from loraplex.platform.settings import GIB, Settings

# Each client of an API worker is an open file, and so is each connection to a database.
ENOUGH_FILES = 8192


def look_at_machine(settings: Settings) -> list[Check]:
    """Everything that can be seen without a database or a server."""
    checks = [_device(), _files(), _data_dir(settings), _disk(settings)]
    if checks[0].verdict == "ok":
        checks += [_compiler(), _locked_memory(settings)]
    return checks + [_model(model.name, model.path) for model in settings.models]


def _device() -> Check:
    # Imported here: it takes seconds, and other checks need none of it.
    import torch

    if not torch.cuda.is_available():
        return warning("device", "There is no CUDA GPU that torch can use: models run on the CPU.")
    found = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    told = ", ".join(f"{each.name} ({each.total_memory / GIB:.0f} GiB)" for each in found)
    return ok("device", f"{told}, torch {torch.__version__}.")


def _compiler() -> Check:
    for name in ("CC", "gcc", "clang"):
        program = shutil.which(os.environ.get(name, name))
        if program is not None:
            return ok("compiler", f"Triton finds {program}.")
    return failure("compiler", "Triton needs a C compiler; install gcc, or set CC.")


def _locked_memory(settings: Settings) -> Check:
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY or limit >= settings.host_cache_size:
        return ok("locked memory", "Adapters in host memory can be page-locked.")
    return warning(
        "locked memory",
        f"The limit of {limit / GIB:.1f} GiB is below --host-cache-size: raise `ulimit -l`, or copies get slower.",
    )


def _files() -> Check:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit >= ENOUGH_FILES:
        return ok("open files", f"{limit} are allowed.")
    return warning("open files", f"Only {limit} are allowed; raise `ulimit -n` to {ENOUGH_FILES}.")


def _data_dir(settings: Settings) -> Check:
    folder = settings.data_dir
    if not folder.exists():
        return ok("data directory", f"{folder} is made at the first start.")
    if not os.access(folder, os.W_OK | os.X_OK):
        return failure("data directory", f"{folder} cannot be written; give it to this user.")
    if folder.stat().st_mode & (stat.S_IROTH | stat.S_IXOTH):
        return warning(
            "data directory", f"Other users of this machine can read {folder}; chmod 700."
        )
    return ok("data directory", f"{folder} is writable, and nobody else reads it.")


def _disk(settings: Settings) -> Check:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < settings.disk_cache_size:
        return warning(
            "disk",
            f"{free / GIB:.1f} GiB are free beside {settings.data_dir}, less than --disk-cache-size; lower it.",
        )
    return ok("disk", f"{free / GIB:.0f} GiB are free.")


def _model(name: str, path: Path) -> Check:
    try:
        config = ModelConfig.from_directory(path)
    except UnsupportedModelError as error:
        return failure(f"model {name}", str(error))
    size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    if not size:
        return failure(f"model {name}", f"{path} has no safetensors weights.")
    return ok(f"model {name}", f"{config.num_layers} layers, {size / GIB:.1f} GiB of weights.")

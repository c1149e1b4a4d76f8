"""Owns page-locking the host memory that a GPU copies adapters from."""

import logging
import threading
import time

import torch

logger = logging.getLogger(__name__)

# Every CUDA context of the process may copy from it.
_PORTABLE = 1


def pin_in_background(region: torch.Tensor, device: torch.device) -> threading.Thread:
    """Page-lock `region` on a thread, as it takes a good part of a second per GiB; copies from it work before as well,
    only slower. If the system refuses, that is how it stays, with a warning."""

    def pin() -> None:
        started = time.monotonic()
        try:
            torch.cuda.set_device(device)
            error = torch.cuda.cudart().cudaHostRegister(
                region.data_ptr(), region.nbytes, _PORTABLE
            )
        except RuntimeError as refused:
            error = refused
        seconds = time.monotonic() - started
        if isinstance(error, RuntimeError) or int(error) != 0:
            logger.warning(
                "host memory for adapters could not be page-locked (%s): loads will be slower; "
                "raise the limit on locked memory (ulimit -l) or lower --host-cache-size",
                error,
            )
        else:
            logger.info(
                "%.1f GiB of host memory page-locked in %.1f s", region.nbytes / 2**30, seconds
            )

    thread = threading.Thread(target=pin, name="pin-memory", daemon=True)
    thread.start()
    return thread

"""Owns what an engine process can tell of the device it runs on."""

import os

import torch


def device_name(device: torch.device) -> str:
    """As its maker calls it; of the CPU how many threads the model has."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} of {os.cpu_count()} cores"


def device_memory(device: torch.device) -> dict[str, float]:
    """Bytes of the device in all and in nobody's hands, whoever has the rest; nothing for the CPU."""
    if device.type != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info(device)
    return {"device_memory_bytes": total, "device_memory_free_bytes": free}

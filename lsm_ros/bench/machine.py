"""What the machine can do at best, for the shares that the rest is told in."""
from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from lsm_ros.evaluation.report import Line

SGEMM, GPU_GEMM = 1536, 8192       # rows and columns of the products
COPY_MB = 256                      # larger than any cache


def product_of(device: torch.device, bfloat16: bool = False) -> tuple[Callable[[], torch.Tensor], int]:
    """A product of square matrices, in `bfloat16` or, on a CPU, float32; and its FLOP."""
    on_cpu = device.type == "cpu"
    size, dtype = SGEMM if on_cpu else GPU_GEMM, torch.bfloat16 if bfloat16 or not on_cpu else torch.float32
    a = torch.rand(size, size, device=device, dtype=dtype)
    return lambda: a @ a, 2 * size ** 3


def gemm_gflops(device: torch.device, rounds: int = 5) -> float:
    """GFLOP/s of the best of some products."""
    product, flop = product_of(device)
    return 1e-9 * flop / min(seconds(product, device)[0] for _ in range(rounds + 1))


def copy_gbs(device: torch.device, rounds: int = 5) -> float:
    """GB/s read and written together, of the best of some copies."""
    source = torch.ones(COPY_MB << 18, device=device)
    target = torch.empty_like(source)
    return 2e-9 * (COPY_MB << 20) / min(seconds(lambda: target.copy_(source), device)[0] for _ in range(rounds + 1))


def seconds(call: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """How long a call takes, the work that it leaves to a GPU included, and what it costs: on a CPU the time of all
    processors together, on a GPU the same again."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start, spent = time.perf_counter(), time.process_time()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall = time.perf_counter() - start
    return wall, time.process_time() - spent if device.type == "cpu" else wall


def describe(device: torch.device) -> Line:
    """The machine in words and numbers."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()       # not on macOS
    line: Line = {"processor": processor(), "cores": cores, "threads": torch.get_num_threads(),
                  "load": os.getloadavg()[0], "python": platform.python_version(), "torch": torch.__version__,
                  "numpy": np.__version__, "device": str(device)}
    if device.type == "cuda":
        line["gpu"], line["cuda"] = torch.cuda.get_device_name(device), torch.version.cuda
    return line


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def peak_gpu_memory_mb(device: torch.device) -> float | None:
    """The most that torch has held of a GPU's so far; None on a CPU."""
    return torch.cuda.max_memory_reserved(device) / 1e6 if device.type == "cuda" else None


def told(error: Exception) -> str:
    """Its kind and its first words: some run over many lines."""
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]

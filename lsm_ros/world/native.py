"""Compiles raycast.cu at its first use, for a GPU with nvcc or for the CPU with g++, and loads it with ctypes.

The shared libraries are kept in $XDG_CACHE_HOME/lsm_ros (~/.cache/lsm_ros), named after all that went into them.
"""
from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from lsm_ros.errors import LsmError

SOURCE = Path(__file__).with_name("raycast.cu")


class CompilerError(LsmError):
    """A compiler that is missing, or that refused the source."""


@cache
def raycaster(architecture: str) -> ctypes.CDLL:
    """The compiled ray caster for "cpu" or for a GPU architecture such as "sm_90". Raises CompilerError."""
    command = _cpu_command() if architecture == "cpu" else _gpu_command(architecture)
    parts = [SOURCE.read_text(), *command, _version(command[0]), _machine(architecture)]
    stamp = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lsm_ros"
    library = folder / f"raycast_{architecture}_{stamp}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _compile(command, library)
    loaded = ctypes.CDLL(str(library))
    loaded.raycast.argtypes, loaded.raycast.restype = [ctypes.c_void_p], ctypes.c_char_p
    return loaded


def architecture_of(device: torch.device) -> str:
    """The name under which `raycaster` knows the device. Raises CompilerError for what is neither a CPU nor CUDA."""
    if device.type == "cpu":
        return "cpu"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"sm_{major}{minor}"
    raise CompilerError(f"the ray caster runs on cpu and cuda, not on {device}")


def _cpu_command() -> list[str]:
    compiler = os.environ.get("CXX") or "g++"
    if shutil.which(compiler) is None:
        raise CompilerError(f"no C++ compiler {compiler!r} on the PATH; the ray caster needs one (apt install g++), "
                            "or the variable CXX with the name of another")
    return [compiler, "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-std=c++17",
            "-shared", "-fPIC", "-x", "c++"]


def _gpu_command(architecture: str) -> list[str]:
    home = Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda")
    compiler = shutil.which("nvcc") or shutil.which(str(home / "bin" / "nvcc"))
    if compiler is None:
        raise CompilerError(f"no nvcc on the PATH nor in {home / 'bin'}; rendering on the GPU needs the CUDA toolkit, "
                            "or the variable CUDA_HOME with its folder")
    return [compiler, "-O3", f"-arch={architecture}", "-use_fast_math", "-std=c++17", "-shared", "-Xcompiler", "-fPIC"]


def _version(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], check=False, capture_output=True, text=True).stdout


def _machine(architecture: str) -> str:
    """What -march=native depends on: a home that two machines share must not mix their libraries."""
    cpuinfo = Path("/proc/cpuinfo")
    if architecture != "cpu" or not cpuinfo.exists():
        return ""
    return next((line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features"))), "")


def _compile(command: list[str], library: Path) -> None:
    """Writes beside the target and renames, so that processes which start together never load half a file."""
    handle, unfinished = tempfile.mkstemp(dir=library.parent, suffix=".so")
    os.close(handle)
    try:
        done = subprocess.run([*command, str(SOURCE), "-o", unfinished], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise CompilerError(f"{' '.join(command)} {SOURCE} failed with exit code {done.returncode}:\n"
                                f"{done.stderr.strip()[-2000:]}")
        os.chmod(unfinished, 0o755)
        os.replace(unfinished, library)
    finally:
        Path(unfinished).unlink(missing_ok=True)

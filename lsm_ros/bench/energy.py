"""What a window costs in energy, where the machine tells: RAPL for the processor, nvidia-smi for a GPU."""
from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import numpy as np
import torch

from lsm_ros.evaluation.report import Line

POWERCAP = Path("/sys/class/powercap")
SMI = ("nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "--loop-ms=100")
SETTLED = .3             # share of the samples of a GPU's power that its own averaging still delays


def per_window(call: Callable[[], object], device: torch.device, seconds: float) -> list[Line]:
    """A line for the processor and one for a GPU: joules a call and watts while it is called again and again, all that
    the machine does meanwhile included; None where it does not tell."""
    zones, samples = Zones(POWERCAP), PowerSamples(device)
    zones.start()
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        call()
        count += 1
    joules = {"processor": zones.joules(), "GPU": None if (watts := samples.watts()) is None else watts * passed}
    if device.type != "cuda":
        del joules["GPU"]
    return [{"what": what, "joules": None if spent is None else spent / count,
             "watts": None if spent is None else spent / passed} for what, spent in joules.items()]


class Zones:
    """The processor packages' energy counters (Linux's powercap; reading them is root's right on most machines)."""

    def __init__(self, folder: Path):
        self._folders = sorted(filter(_is_package, folder.glob("*-rapl:*")))
        self._before: list[int] | None = None

    def start(self) -> None:
        self._before = self._read()

    def joules(self) -> float | None:
        """Since the start."""
        now = self._read()
        if not (self._before and now):
            return None
        spent = 0
        for folder, before, after in zip(self._folders, self._before, now, strict=True):
            if after < before:                               # the counter has begun again
                after += int((folder / "max_energy_range_uj").read_text())
            spent += after - before
        return 1e-6 * spent

    def _read(self) -> list[int] | None:
        try:
            return [int((folder / "energy_uj").read_text()) for folder in self._folders]
        except (OSError, ValueError):
            return None


def _is_package(zone: Path) -> bool:
    """Neither a part of one nor "psys", which laptops have beside them: the whole board's, the packages' among it."""
    try:
        return zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package")
    except OSError:
        return False


class PowerSamples:
    """A GPU's draw of power as nvidia-smi tells it every tenth of a second, from now on."""

    def __init__(self, device: torch.device):
        self._watts: list[float] = []
        self._process = None
        if device.type != "cuda":
            return
        number = torch.cuda.current_device() if device.index is None else device.index
        try:
            uuid = str(torch.cuda.get_device_properties(number).uuid)         # CUDA_VISIBLE_DEVICES renumbers them
            self._process = subprocess.Popen([*SMI, f"--id=GPU-{uuid.removeprefix('GPU-')}"], stdout=subprocess.PIPE,
                                             stderr=subprocess.DEVNULL, text=True)
        except (OSError, AttributeError):                                     # no nvidia-smi, an old torch
            return
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def watts(self) -> float | None:
        """The mean since then, its beginning left out; ends the sampling."""
        if self._process is None:
            return None
        self._process.terminate()
        self._reader.join(1.0)
        self._process.wait()
        settled = self._watts[int(SETTLED * len(self._watts)):]
        return float(np.mean(settled)) if settled else None

    def _read(self) -> None:
        for line in self._process.stdout:
            try:
                self._watts.append(float(line))
            except ValueError:                                                # [N/A]
                return

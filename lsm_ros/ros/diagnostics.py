"""What the node knows about itself: counters, rates, latencies, and the DiagnosticArray made of them."""
from __future__ import annotations

import statistics
import threading
import time
from collections import Counter, deque
from dataclasses import asdict
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.impl.rcutils_logger import RcutilsLogger

from lsm_ros.mapping.mapper import Mapper
from lsm_ros.memory import memory_mb

LOG_PERIOD_S = 5.0          # a problem of one kind is logged at most this often, and colours the status this long
RATE_WINDOW_S = 5.0         # rates are counted over this time
LATENCIES = 100             # latencies are medians over this many windows
SILENCE_S = 5.0             # without an image for this long is an error


class Health:
    """Counters and timings. Written by the executor's and the worker's thread, hence the lock."""

    def __init__(self, logger: RcutilsLogger):
        self._logger = logger
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._logged: dict[str, float] = {}
        self._last_problem: tuple[float, str] | None = None
        self._arrivals: deque[float] = deque(maxlen=1000)
        self._updates: deque[float] = deque(maxlen=1000)
        self._seconds: dict[str, deque[float]] = {}
        self._last_arrival: float | None = None

    def count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def problem(self, name: str, text: str, detail: str = "") -> None:
        """Counts a problem and logs it, but not the same kind of it more often than every few seconds.

        `detail`, a traceback say, is for the log alone.
        """
        now = time.monotonic()
        with self._lock:
            self._counts[name] += 1
            self._last_problem = now, text
            quiet = now - self._logged.get(name, -LOG_PERIOD_S) < LOG_PERIOD_S
            if not quiet:
                self._logged[name] = now
            times = self._counts[name]
        if not quiet:
            self._logger.warning(f"{name} ({times} so far): {text}" + (f"\n{detail}" if detail else ""))

    def listens_anew(self) -> None:
        """Images that came before it stopped listening say nothing of the camera's silence."""
        with self._lock:
            self._last_arrival = None

    def arrived(self) -> None:
        now = time.monotonic()
        with self._lock:
            self._counts["images_received"] += 1
            self._arrivals.append(now)
            self._last_arrival = now

    def mapped(self, seconds: dict[str, float]) -> None:
        """A window came through; `seconds` by stage."""
        with self._lock:
            self._updates.append(time.monotonic())
        self.timed(seconds)

    def timed(self, seconds: dict[str, float]) -> None:
        with self._lock:
            for stage, value in seconds.items():
                self._seconds.setdefault(stage, deque(maxlen=LATENCIES)).append(value)

    def snapshot(self) -> dict[str, Any]:
        """counts, image_rate_hz, window_rate_hz, image_age_s, window_age_s, latency_ms (median by stage), problem."""
        now = time.monotonic()
        with self._lock:
            problem = self._last_problem
            return {
                "counts": dict(self._counts),
                "image_rate_hz": _rate(self._arrivals, now),
                "window_rate_hz": _rate(self._updates, now),
                "image_age_s": None if self._last_arrival is None else now - self._last_arrival,
                "window_age_s": now - self._updates[-1] if self._updates else None,
                "latency_ms": {stage: 1e3 * statistics.median(values) for stage, values in self._seconds.items()},
                "problem": problem[1] if problem and now - problem[0] < LOG_PERIOD_S else None}


def diagnostic_array(header, name: str, health: Health, counters: Any, state: str, camera: dict[str, str],
                     fault: str | None, matches: int | None = None, world: dict[str, Any] | None = None,
                     views: str | None = None) -> DiagnosticArray:
    """Five statuses: camera, mapping, map, latency, process.

    Args:
        name: the node's full name, the first part of each status name.
        counters: the mapper's, a dataclass of ints, or None while unconfigured.
        state: the lifecycle state, or what the mapper does while active.
        camera: topic, encoding, size ... of the input, as they are to be shown.
        fault: why the node could not be configured, if so.
        matches: what backs the last window's pose; 0, the state "weak": it is merely predicted.
        views: how many a window has, and why it is not as many as wanted.
        world: what `map_values` tells of the map; None or empty where there is none yet.
    """
    now = health.snapshot()
    age = now["image_age_s"]
    if state in ("unconfigured", "inactive", "disabled", "paused", "finalized"):
        camera_level, camera_text = DiagnosticStatus.OK, f"not listening ({state})"
    elif age is None or age > SILENCE_S:
        silence = "no image yet" if age is None else f"no image for {age:.1f} s"
        camera_level, camera_text = DiagnosticStatus.ERROR, f"{silence} on {camera.get('topic', '')}"
    else:
        camera_level, camera_text = DiagnosticStatus.OK, f"{now['image_rate_hz']:.1f} images/s"
    mapping_level, mapping_text = DiagnosticStatus.OK, state
    if fault:
        mapping_level, mapping_text = DiagnosticStatus.ERROR, fault
    elif now["problem"]:
        mapping_level, mapping_text = DiagnosticStatus.WARN, now["problem"]
    elif state in ("lost", "weak"):
        mapping_level = DiagnosticStatus.WARN
    mapped = asdict(counters) if counters else {}
    total = now["latency_ms"].get("image_to_cloud")
    memory = memory_mb()
    return DiagnosticArray(header=header, status=[
        _status(f"{name}: camera", camera_level, camera_text,
                {**camera, "image_rate_hz": now["image_rate_hz"], "image_age_s": age}),
        _status(f"{name}: mapping", mapping_level, mapping_text,
                {"state": state, "window_rate_hz": now["window_rate_hz"], "window_age_s": now["window_age_s"],
                 "window_views": views, "window_matches": matches, **now["counts"],
                 **{f"mapper.{key}": value for key, value in mapped.items()}}),
        _status(f"{name}: map", DiagnosticStatus.OK, _map_text(world) if world else "no map yet", world or {}),
        _status(f"{name}: latency", DiagnosticStatus.OK,
                "no window yet" if total is None else f"{total:.0f} ms from image to cloud (median)",
                {f"{stage}_ms": value for stage, value in now["latency_ms"].items()}),
        _status(f"{name}: process", DiagnosticStatus.OK, f"{memory['resident_mb']:.0f} MB", memory),
    ])


def map_values(mapper: Mapper) -> dict[str, Any]:
    """The map's number and size, its metre and who says so, its loops, and whether z = 0 is its floor."""
    metric = mapper.metric
    return {"map_id": mapper.map_id, "keyframes": mapper.keyframes, "voxels": mapper.voxels,
            "scale": float(metric.scale), "scale_source": metric.source,
            "scale_sigma": float(metric.sigma), "scale_samples": metric.samples, "loops": mapper.loops,
            "on_floor": mapper.on_floor}


def _map_text(world: dict[str, Any]) -> str:
    floor = "z = 0 is the floor" if world["on_floor"] else "no floor found yet"
    metre = f"its metre from {world['scale_source']} (1 sigma {world['scale_sigma']:.0%})"
    return f"map {world['map_id']} of {world['keyframes']} keyframes, {metre}, {floor}"


def _rate(times: deque[float], now: float) -> float:
    recent = [t for t in times if now - t < RATE_WINDOW_S]
    return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0


def _status(name: str, level: bytes, message: str, values: dict[str, Any]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=f"{value:.3f}" if isinstance(value, float) else str(value))
             for key, value in values.items() if value is not None]
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id="", values=pairs)

"""The node for a long time, at 30 images a second: memory, threads, open files, latency, and where the images went.

In CI 50 s of the toy room with the fake network, whose windows are quick. LSM_SOAK_S=3600 makes it an hour of the
shipped recording, round and round, with the shipped network. What it saw is printed, and in soak.json.
"""
from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from harness import Camera, Process
from sensor_msgs.msg import PointCloud2
from test_node_troubles import FATES

from lsm_ros.ros.conversions import stamp_ns

REAL = "LSM_SOAK_S" in os.environ
LENGTH_S = float(os.environ.get("LSM_SOAK_S", "50"))
SAMPLES = 60
WARM_UP = 0.4                       # of the time: until the map is full and every buffer has its size
RATE_HZ, RECORDED_HZ = 30.0, 15.0
# So that the map is full, and forgets, soon.
LIMITS = ("mapper.max_keyframes:=30", "predictor.token_cache:=16")


class Room:
    """The harness's camera, and what it has sent. Its stamps are no times, so it notes when they went out."""

    def __init__(self, camera: Camera):
        self._camera, self.sent = camera, 0
        self._sent_ns: dict[int, int] = {}

    def play(self, seconds: float) -> None:
        due_s = time.monotonic()
        end_s = due_s + seconds
        while due_s < end_s:
            stamp = stamp_ns(self._camera.send().header.stamp)
            self._sent_ns[stamp] = self._camera.get_clock().now().nanoseconds
            self.sent += 1
            due_s += 1 / RATE_HZ
            self._camera.spin(max(0.001, due_s - time.monotonic()))

    def sent_ns(self, stamp: int) -> int:
        return self._sent_ns[stamp]

    def stop(self) -> None:
        pass


class Recording:
    """The player, whose stamps are times."""

    def __init__(self, camera: Camera, log: Path):
        self._camera = camera
        self._player = Process([sys.executable, "-m", "lsm_ros.ros.player", "--ros-args", "-p", "loop:=true",
                                "-p", f"rate:={RATE_HZ / RECORDED_HZ}"], log)
        self.play = camera.spin

    def sent_ns(self, stamp: int) -> int:
        return stamp

    def stop(self) -> None:
        assert self._player.stop() == 0
        self.sent = int(self._player.output().split("sent ")[1].split()[0])


def usage(pid: int) -> dict[str, float]:
    """Resident memory in MB, threads and open files of a process."""
    folder = Path(f"/proc/{pid}")
    return {"rss_mb": int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20,
            "threads": len(list((folder / "task").iterdir())), "files": len(list((folder / "fd").iterdir()))}


@pytest.mark.slow
def test_hours_leave_no_trace(start, camera: Camera, tmp_path):
    faulthandler.dump_traceback_later(LENGTH_S + 900, exit=True, file=sys.__stderr__)     # later than pytest's own
    transport = ["image_transport:=compressed"] if REAL else []
    node = start(*LIMITS, *transport, fake=not REAL)
    camera.connect()
    source = Recording(camera, tmp_path / "player.log") if REAL else Room(camera)
    latencies_s: list[float] = []

    def on_cloud(message: PointCloud2) -> None:
        sent_ns = source.sent_ns(stamp_ns(message.header.stamp))
        latencies_s.append((camera.get_clock().now().nanoseconds - sent_ns) * 1e-9)

    readers = [camera.create_subscription(PointCloud2, "/lsm/semantic_cloud", on_cloud, 10),
               camera.create_subscription(PointCloud2, "/lsm/map_cloud", lambda message: None, 10)]
    rows, begun_s = [], time.monotonic()
    while (elapsed_s := time.monotonic() - begun_s) < LENGTH_S:
        source.play(LENGTH_S / SAMPLES)
        rows.append({"s": elapsed_s, **usage(node.process.pid), "windows": len(latencies_s)})
        (tmp_path / "rows.json").write_text(json.dumps(rows))           # in case that it is not to end well
    source.stop()
    camera.spin_until(lambda: sum(map(camera.counter, FATES)) == camera.counter("images_received"),
                      what="for every image to be accounted for")
    counts = {**camera.diagnostics["lsm/lsm: mapping"]}
    before_s = time.monotonic()
    assert node.stop() == 0
    stop_s = time.monotonic() - before_s
    for reader in readers:
        camera.destroy_subscription(reader)

    warm = rows[round(WARM_UP * len(rows)):]
    late_s = np.array(latencies_s[warm[0]["windows"]:])
    told = {"sent": source.sent, "counts": counts, "windows": len(latencies_s), "stop_s": stop_s,
            "latency_s": {f"p{share}": float(np.percentile(late_s, share)) for share in (50, 99)}, "rows": rows}
    (tmp_path / "soak.json").write_text(json.dumps(told, indent=1))
    print(json.dumps({**told, "rows": rows[::6]}))

    assert camera.counter("images_received") > 0.95 * source.sent, "a best-effort reader may lose a few"
    assert not {name for name in counts if name.endswith("exceptions")}
    assert int(counts["mapper.forgotten_keyframes"]) > 0, "the map was never full"
    half = len(warm) // 2
    # Memory in the median: one sample may meet a cloud on its way out.
    for name, slack, most in (("rss_mb", 25, np.median), ("threads", 0, max), ("files", 0, max)):
        earlier, later = (most([row[name] for row in part]) for part in (warm[:half], warm[half:]))
        assert later <= earlier + slack, f"{name} grew from {earlier} to {later}"

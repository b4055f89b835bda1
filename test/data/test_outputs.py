"""What a run writes, read by others."""
import json
import os
import resource
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from PIL import Image

from lsm_ros.contracts import Cloud, Frame, MapObject, MapUpdate
from lsm_ros.data import outputs
from lsm_ros.data.outputs import Run, RunLog, save_run, write_ply, write_trajectory
from lsm_ros.data.pictures import FrameSample
from lsm_ros.errors import OutputError
from lsm_ros.evaluation.run import read_trajectory
from lsm_ros.geometry.sim3 import exp
from lsm_ros.labels import LabelSet

LABELS = LabelSet.load()
POSES = [(1_700_000_000_000_000_001 + index * 100_000_000, exp(np.array([index, 0.5, 1, 0.1 * index, 0, 1])))
         for index in range(5)]


def make_run(points=400):
    rng = np.random.default_rng(0)
    cloud = Cloud(points=rng.uniform(-2, 2, (points, 3)).astype(np.float32),
                  colors=rng.integers(0, 256, (points, 3), dtype=np.uint8),
                  labels=rng.integers(0, 40, points).astype(np.uint16),
                  confidence=rng.integers(0, 256, points).astype(np.uint8))
    chair = MapObject(id=4, label=13, name="chair", center=np.array([1.0, 2, 0.5]), size=np.array([0.5, 0.5, 1.0]),
                      yaw=0.25, confidence=0.75, points=80)
    sample = FrameSample(POSES[0][0], np.full((48, 64, 3), 90, np.uint8), np.full((24, 32), 2, np.float32),
                         np.full((24, 32), 13, np.uint16))
    return Run(cloud, POSES, [chair], LABELS, title="test", samples=(sample,), summary={"source": "nowhere"})


def test_another_reader_finds_every_point_with_its_label(tmp_path):
    run = make_run()
    write_ply(tmp_path / "cloud.ply", run.cloud, LABELS)
    read = trimesh.load(tmp_path / "cloud.ply")
    vertices = read.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_array_equal(read.vertices, run.cloud.points)
    np.testing.assert_array_equal(read.colors[:, :3], run.cloud.colors)
    np.testing.assert_array_equal(np.ravel(vertices["label"]), run.cloud.labels)
    np.testing.assert_array_equal(np.ravel(vertices["confidence"]), run.cloud.confidence)


def test_open3d_reads_the_cloud_with_labels(tmp_path):
    o3d = pytest.importorskip("open3d", reason="no open3d, or no libusb that it needs", exc_type=ImportError)
    run = make_run()
    write_ply(tmp_path / "cloud.ply", run.cloud, LABELS)
    read = o3d.t.io.read_point_cloud(str(tmp_path / "cloud.ply"))
    np.testing.assert_array_equal(read.point.positions.numpy(), run.cloud.points)
    np.testing.assert_array_equal(read.point.colors.numpy(), run.cloud.colors)
    np.testing.assert_array_equal(read.point.label.numpy()[:, 0], run.cloud.labels)
    np.testing.assert_array_equal(read.point.confidence.numpy()[:, 0], run.cloud.confidence)
    header = (tmp_path / "cloud.ply").read_bytes().split(b"end_header")[0].decode()
    assert "comment label 12 coffee table\n" in header


def test_the_trajectory_keeps_every_nanosecond(tmp_path):
    write_trajectory(tmp_path / "trajectory.txt", POSES)
    read = read_trajectory(tmp_path / "trajectory.txt")
    assert [stamp for stamp, _ in read] == [stamp for stamp, _ in POSES]
    np.testing.assert_allclose([T for _, T in read], [T for _, T in POSES], atol=3e-6)


def test_objects_summary_and_pictures(tmp_path):
    files = save_run(tmp_path, make_run())
    (chair,) = json.loads((tmp_path / "objects.json").read_text())["objects"]
    assert chair == {"id": 4, "label": 13, "name": "chair", "center": [1, 2, 0.5], "size": [0.5, 0.5, 1], "yaw": 0.25,
                     "confidence": 0.75, "points": 80}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["source"] == "nowhere" and summary["points"] == 400 and summary["objects"] == {"chair": 1}
    assert summary["duration_s"] == pytest.approx(0.4)
    assert sum(summary["class_shares"].values()) == pytest.approx(1, abs=1e-3)
    for name in ("map_by_colour", "map_by_class", "frames"):
        assert tmp_path / f"pictures/{name}.png" in files
        assert np.asarray(Image.open(tmp_path / f"pictures/{name}.png")).std() > 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cloud.ply", "objects.json", "pictures", "summary.json",
                                                                "trajectory.txt"]


def test_a_run_without_frames_leaves_none_of_the_run_before(tmp_path):
    """As after load_map and set_classes, where the frames that are remembered are another map's, or in other words."""
    save_run(tmp_path, make_run())
    save_run(tmp_path, replace(make_run(), samples=()))
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["map_by_class.png", "map_by_colour.png"]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("points", [400, 10_000])       # the limit is met by a picture, and by the cloud
def test_a_disk_that_takes_no_more_leaves_the_old_files_whole(tmp_path, monkeypatch, points):
    with monkeypatch.context() as patch:
        patch.setattr(outputs, "map_picture", lambda *_, **__: np.zeros((9, 16, 3), np.uint8))
        save_run(tmp_path, make_run(400))
    before, (soft, hard) = contents(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OutputError, match=f"can't be written into {tmp_path}: File too large"):
            save_run(tmp_path, make_run(points))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path) == before


def test_a_full_disk_leaves_the_old_files_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "map_picture", lambda *_, **__: np.zeros((9, 16, 3), np.uint8))
    save_run(tmp_path, make_run(400))
    before = contents(tmp_path)

    def full(path, *_):
        with open("/dev/full", "wb") as device:
            device.write(bytes(100000))

    monkeypatch.setattr(outputs, "write_picture", full)
    with pytest.raises(OutputError, match=f"can't be written into {tmp_path}: No space left on device"):
        save_run(tmp_path, make_run(200))
    assert contents(tmp_path) == before


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from lsm_ros.contracts import Cloud
from lsm_ros.data import outputs
from lsm_ros.data.outputs import Run, save_run
from lsm_ros.labels import LabelSet

outputs.map_picture = lambda *_, **__: np.zeros((9, 16, 3), np.uint8)

def stuck(path):
    path.write_bytes(b"half")
    print("half", flush=True)
    time.sleep(600)

cloud = Cloud(np.zeros((9, 3), np.float32), np.zeros((9, 3), np.uint8), np.zeros(9, np.uint16), np.zeros(9, np.uint8))
save_run(Path(sys.argv[1]), Run(cloud, [], [], LabelSet.load()), also={"map.safetensors": stuck})
"""


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_files_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "map_picture", lambda *_, **__: np.zeros((9, 16, 3), np.uint8))
    save_run(tmp_path, make_run(400), also={"map.safetensors": lambda path: path.write_bytes(b"whole")})
    before = contents(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, cwd=tmp_path)
    assert process.stdout.readline() == b"half\n"
    process.kill()
    process.communicate()
    left = [path for path in tmp_path.iterdir() if path.name.startswith(outputs.STAGING)]
    assert len(left) == 1
    assert {path: data for path, data in contents(tmp_path).items() if left[0] not in path.parents} == before
    save_run(tmp_path, make_run(200))
    assert left[0].exists(), "somebody may be writing it"
    os.utime(left[0], (0, 0))
    save_run(tmp_path, make_run(200))
    assert not left[0].exists()


def test_a_file_in_the_way_of_the_pictures_leaves_the_old_files_whole(tmp_path):
    (tmp_path / "cloud.ply").write_text("old")
    (tmp_path / "pictures").touch()
    with pytest.raises(OutputError, match="File exists"):
        save_run(tmp_path, make_run(200))
    assert (tmp_path / "cloud.ply").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"cloud.ply", "pictures"}


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file/out"):
        save_run(tmp_path / "file/out", make_run())
    with pytest.raises(OutputError, match="no points yet"):
        save_run(tmp_path / "empty", make_run(0))
    assert not (tmp_path / "empty").exists()


def test_the_log_covers_a_long_run_evenly_in_bounded_memory():
    log = RunLog()
    image, plane = np.zeros((48, 64, 3), np.uint8), np.ones((4, 4), np.float32)
    for index in range(500):
        update = MapUpdate(index, index, np.eye(4), {}, None, np.eye(3), plane, plane.astype(np.uint16), plane,
                           plane > 0, 1.0,
                           {"network": 0.1 + 0.001 * index})
        log.add(Frame(index, image), update)
        assert len(log._samples) < 24
    stamps = [sample.stamp_ns for sample in log.samples()]
    assert len(stamps) == 6 and stamps[0] == 0 and stamps[-1] > 400 and np.diff(stamps).max() < 130
    assert log.latency() == {"network": {"median": 0.3495, "p90": 0.5491}}

"""The shipped recording and the program that renders it."""
from __future__ import annotations

import re

import numpy as np
import pytest

from lsm_ros.data.recording import RecordingSequence
from lsm_ros.errors import InputError, OutputError
from lsm_ros.resources import resource
from lsm_ros.world import recording
from lsm_ros.world.recording import SEED, TRUTH_EVERY, record


def test_a_recording_holds_pictures_and_truth(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "SIZE", (160, 120))
    assert record(tmp_path / "walk", seconds=.6, rate=10.0) == 6
    frames = list(RecordingSequence(tmp_path / "walk"))
    assert len(frames) == 6
    assert [frame.depth is not None for frame in frames] == [k % TRUTH_EVERY == 0 for k in range(6)]
    for known in frames[::TRUTH_EVERY]:
        assert known.labels.shape == known.depth.shape and known.labels.max() < 40
        assert .2 < np.nanmin(known.depth) < np.nanmax(known.depth) < 15
    stamps = [frame.frame.stamp_ns for frame in frames]
    assert set(np.diff(stamps)) == {100_000_000}
    for frame in frames:
        assert frame.frame.image.shape == (120, 160, 3) and 40 < frame.frame.image.mean() < 200
        assert np.allclose(frame.T_world_cam[:3, :3] @ frame.T_world_cam[:3, :3].T, np.eye(3), atol=1e-6)
        assert 1.0 < frame.T_world_cam[2, 3] < 1.5
    with pytest.raises(OutputError, match="walk"):
        record(tmp_path / "walk", seconds=.6, rate=10.0)


@pytest.mark.parametrize("seed", [0, 1 << 40])
def test_seeds_of_training_and_evaluation_are_refused(seed, tmp_path):
    with pytest.raises(InputError, match=str(seed)):
        record(tmp_path / "walk", seed=seed)
    assert SEED < 0


@pytest.mark.parametrize(("seconds", "rate"), [(14, 0), (14, -3), (14, float("nan")), (14, float("inf")), (0, 15),
                                               (float("nan"), 15), (-14, -15), (.5, 2)])
def test_a_time_or_a_rate_that_makes_no_walk_is_named(seconds, rate, tmp_path, monkeypatch, capsys):
    told = re.escape(f"seconds = {seconds:g}, rate = {rate:g}; a walk has 2 images at least")
    with pytest.raises(InputError, match=told):
        record(tmp_path / "walk", seconds=seconds, rate=rate)
    monkeypatch.setattr("sys.argv", ["recording", str(tmp_path / "walk"), f"--seconds={seconds}", f"--rate={rate}"])
    assert recording.main() == 2 and re.search(told, capsys.readouterr().err)
    assert not (tmp_path / "walk").exists()


def test_the_shipped_recording():
    folder = resource("recordings/apartment")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 6_000_000
    frames = RecordingSequence(folder)
    poses, shapes = zip(*((frame.T_world_cam, frame.frame.image.shape) for frame in frames), strict=True)
    poses = np.array(poses)
    assert set(shapes) == {(480, 640, 3)}
    seconds = len(poses) / 15
    assert frames.length == len(poses) and seconds >= 10
    speed = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1) * 15
    turn = np.einsum("vji,vjk->vik", poses[:-1, :3, :3], poses[1:, :3, :3]).trace(axis1=1, axis2=2)
    assert speed.max() < .65 and np.degrees(np.arccos(np.clip((turn - 1) / 2, -1, 1))).max() * 15 < 42
    assert np.ptp(poses[:, :2, 3], axis=0).max() > 2

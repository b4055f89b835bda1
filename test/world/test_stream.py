"""The stream of training batches and the fixed batches of evaluation, with real worlds and real worker processes."""
from __future__ import annotations

import fcntl
import os
import signal
import sys
import termios
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from lsm_ros.errors import InputError
from lsm_ros.geometry import sim3
from lsm_ros.world import stream as worlds
from lsm_ros.world.factory import HELD_OUT_SEEDS, FactoryError, make_parcel, training_seeds
from lsm_ros.world.renderer import NO_LABEL, SceneBank
from lsm_ros.world.stream import READOUT_M, READOUT_RAD, Lens, Shutter, WorldStream, fixed_batch, random_rolls

SIZE = (48, 64)


def test_seeds_of_streams_and_workers_never_meet_nor_are_held_out():
    runs = [set(islice(training_seeds(stream, worker), 100)) for stream in (0, 1, 64, 10**9) for worker in (0, 1, 4095)]
    assert len(set.union(*runs)) == 100 * len(runs)
    assert all(seed not in HELD_OUT_SEEDS for run in runs for seed in run)


def test_fixed_batch_is_the_same_alone_and_among_others():
    seeds = [HELD_OUT_SEEDS[3], HELD_OUT_SEEDS[4]]
    both, alone = fixed_batch(seeds, SIZE, 3, "cpu"), fixed_batch(seeds[1:], SIZE, 3, "cpu")
    for name in ("depth", "label", "instance", "K", "T_world_cam", "valid"):
        assert torch.equal(getattr(both, name)[1:], getattr(alone, name)), name
    assert (both.image[1:] - alone.image).abs().mean() < 0.05          # pixel noise alone is another
    assert both.image.shape == (2, 3, 3, *SIZE) and both.K.shape == (2, 3, 3, 3)


def test_depth_pose_and_intrinsics_of_a_batch_fit_together():
    """A point that two views share has the same label in both: the truth would not, with a wrong K, pose or depth."""
    batch = fixed_batch(HELD_OUT_SEEDS[:6], (96, 128), 2, "cpu")
    v, u = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    pixel = torch.stack([u, v, torch.ones_like(u)], dim=-1).double()
    same = []
    for K, T, depth, label in zip(batch.K.double(), batch.T_world_cam.double(), batch.depth.double(), batch.label,
                                  strict=True):
        point = pixel @ torch.linalg.inv(K[0]).T * depth[0][..., None]
        point = point @ T[0, :3, :3].T + T[0, :3, 3]
        seen = (point - T[1, :3, 3]) @ T[1, :3, :3] @ K[1].T
        x, y = (seen[..., i].div(seen[..., 2]).floor().long() for i in (0, 1))
        shared = (depth[0] > 0) & (seen[..., 2] > 0) & (x >= 0) & (x < 128) & (y >= 0) & (y < 96)
        x, y = x.clamp(0, 127), y.clamp(0, 95)
        shared &= (depth[1, y, x] / seen[..., 2] - 1).abs() < 0.02     # and nothing stands before it
        same.append((label[0] == label[1, y, x])[shared])
    assert torch.cat(same).numel() > 5000
    assert torch.cat(same).float().mean() > 0.97


def test_a_camera_inside_a_thing_is_not_valid():
    parcel = make_parcel([1], 1, 2, None)
    bank = SceneBank.empty(1, torch.device("cpu"))
    bank.put(0, parcel.scenes)
    center = torch.from_numpy(parcel.scenes.primitives[0, :1, 21:24].copy())
    assert bank.occupied(torch.tensor([0]), center[None]).all()
    assert not bank.occupied(torch.tensor([0]), torch.from_numpy(parcel.T_world_cam[:1, 0, :, :3, 3])).any()


def test_lens_keeps_the_focal_length_and_bends_as_told():
    focal = np.array([0.5, 1.0], np.float32)
    lens = Lens(focal=focal, aspect=np.ones(2, np.float32), center=np.full((2, 2), 0.5, np.float32),
                bend=np.array([[0.02, 0], [0, 0.01]], np.float32))
    K, distortion = lens.cameras(3, (48, 64))
    assert K[:, :, 0, 0].tolist() == [[32] * 3, [64] * 3] and K[0, 0].tolist() == [[32, 0, 32], [0, 32, 24], [0, 0, 1]]
    edge2 = (32 / K[:, 0, 0, 0]) ** 2
    assert distortion[:, 0, 0] * edge2 + distortion[:, 0, 1] * edge2 ** 2 == pytest.approx([0.02, 0.01])


def test_a_shutter_follows_the_path():
    step = sim3.sim3(sim3.exp_so3(np.array([0.02, 0.2, 0.1])), np.array([0.1, -0.2, 0.3]))      # in the camera's frame
    path = np.stack([np.eye(4), step, step @ step])
    fast = np.stack([np.eye(4), sim3.sim3(sim3.exp_so3(np.array([0, 1.2, 0])), np.array([0, 0, 1.5]))])
    T_world_cam = torch.from_numpy(np.stack([path, path])).float()
    slow, none = Shutter(np.array([0.02, 0], np.float32)).motion(T_world_cam)
    assert torch.allclose(slow[:2], 0.02 * torch.tensor([0.1, -0.2, 0.3, 0.02, 0.2, 0.1]).expand(2, 6), atol=1e-6)
    came = torch.from_numpy(step[:3, :3].T @ (0.1, -0.2, 0.3)).float()                          # the last one's frame
    assert torch.allclose(slow[2], 0.02 * torch.cat([came, torch.tensor([0.02, 0.2, 0.1])]), atol=1e-6)
    assert not none.any() and not Shutter(np.ones(2, np.float32)).motion(T_world_cam[:, :1]).any()
    limited = Shutter(np.full(1, 0.05, np.float32)).motion(torch.from_numpy(fast[None]).float())[0, 0]
    assert limited.tolist() == pytest.approx([0, 0, READOUT_M, 0, READOUT_RAD, 0], abs=1e-6)


def test_shutters_leave_the_rest_of_a_fixed_batch_alone(monkeypatch):
    seeds = HELD_OUT_SEEDS[:8]
    with_shutters = fixed_batch(seeds, SIZE, 2, "cpu")
    monkeypatch.setattr(worlds, "ROLLING_SHARE", 0.0)
    without = fixed_batch(seeds, SIZE, 2, "cpu")
    assert torch.equal(with_shutters.K, without.K) and torch.equal(with_shutters.T_world_cam, without.T_world_cam)
    moved = ~torch.isclose(with_shutters.depth, without.depth, rtol=1e-4).flatten(1)
    share = moved.float().mean(dim=1)
    assert 0 < (share > 0.05).sum() < 6 and ((share > 0.05) | (share < 1e-3)).all()


def test_rolled_cameras_are_a_share_and_look_where_they_did():
    turns = random_rolls(np.random.default_rng(0), 400, 0.5)
    assert turns.dtype == np.float32 and np.allclose(turns @ turns.swapaxes(1, 2), np.eye(4), atol=1e-6)
    degrees = np.degrees(np.arctan2(turns[:, 1, 0], turns[:, 0, 0]))
    rolled = abs(degrees) > 0
    assert 0.4 < rolled.mean() < 0.6 and 48 < abs(degrees).max() < 52 and abs(degrees[rolled].mean()) < 5

    plain, turned = (fixed_batch([5, 6], (48, 64), 2, "cpu", rolled=share) for share in (0.0, 1.0))
    assert torch.equal(plain.T_world_cam[..., 2:], turned.T_world_cam[..., 2:])
    assert not torch.allclose(plain.T_world_cam[..., 0], turned.T_world_cam[..., 0], atol=0.01)
    relative = [batch.T_world_cam[:, 0].inverse() @ batch.T_world_cam[:, 1] for batch in (plain, turned)]
    assert torch.allclose(*(T[:, :3, 3].norm(dim=1) for T in relative), atol=1e-5)
    middle = [batch.depth[..., 23:25, 31:33].mean(dim=(2, 3)) for batch in (plain, turned)]
    assert (middle[0] / middle[1]).log().abs().median() < 0.05


def test_small_robots_take_a_share_of_the_paths_and_leave_the_worlds_alone():
    plain, some, all_low = (make_parcel([3, 4], 8, 3, None, low=share) for share in (0.0, 0.5, 1.0))
    assert all(np.array_equal(plain.scenes.primitives, other.scenes.primitives) for other in (some, all_low))
    heights = [parcel.T_world_cam[..., 2, 3] for parcel in (plain, some, all_low)]
    assert heights[0].min() > 0.25                           # the others keep as clear of the floor as of everything
    assert 0.06 <= heights[2].min() and heights[2].max() <= 0.41
    assert 0.2 < (heights[1].max(axis=2) <= 0.41).mean() < 0.8
    seen = fixed_batch([3, 4], SIZE, 3, "cpu", low=1.0)
    assert (seen.T_world_cam[..., 2, 3] < 0.4).all() and seen.valid.any()


def test_a_phone_held_upright_sees_as_far_to_the_sides_as_one_on_its_side_up_and_down():
    lens = Lens(np.array([0.8], np.float32), np.ones(1, np.float32), np.full((1, 2), 0.5, np.float32),
                np.zeros((1, 2), np.float32))
    (wide,), (tall,) = (lens.cameras(1, size)[0][0] for size in ((192, 256), (256, 192)))
    assert wide[0, 0] == tall[0, 0] == wide[1, 1] == tall[1, 1] == pytest.approx(0.8 * 256)
    assert wide[:2, 2].tolist() == [128, 96] and tall[:2, 2].tolist() == [96, 128]


def test_a_stream_gives_changing_batches_of_any_size():
    with closing(WorldStream(SIZE, views=3, batch=4, device="cpu", seed=5, workers=1, bank=16)) as stream:
        first, second = stream.next(), stream.next((40, 56))
        assert first.image.shape == (4, 3, 3, *SIZE) and second.image.shape == (4, 3, 3, 40, 56)
        assert (first.label.dtype, first.depth.dtype, first.valid.dtype) == (torch.uint8, torch.float32, torch.bool)
        known = first.label != NO_LABEL
        assert torch.equal(known, first.depth > 0) and known.float().mean() > 0.9 and first.label[known].max() < 40
        before, deadline = stream.worlds, time.monotonic() + 60
        while stream.worlds == before and time.monotonic() < deadline:
            stream.next()
        assert stream.worlds > before >= 16                            # a full bank is replaced by and by
        workers = list(stream._factory._workers.values())
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_worker_is_reported(signal_):
    """Also one that dies within a parcel: by then its pipe is full, and it stands in the middle of the next one."""
    with closing(WorldStream(SIZE, views=2, batch=1, device="cpu", seed=6, workers=1, bank=8)) as stream:
        stream.next()
        [(pipe, worker)] = stream._factory._workers.items()
        wait_until_full(pipe, worker.pid)
        os.kill(worker.pid, signal_)
        worker.join()
        with pytest.raises(FactoryError, match=f"exit code -{int(signal_)}"):
            for _ in range(50):
                stream.next()


def wait_until_full(pipe, pid: int) -> None:
    """Returns when the pipe holds something and its writer has slept for a while: it is blocked."""
    deadline, asleep = time.monotonic() + 60, 0
    while time.monotonic() < deadline:
        waiting = int.from_bytes(fcntl.ioctl(pipe.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]      # R: it runs or waits to run
        asleep = asleep + 1 if waiting and state == "S" else 0
        if asleep == 5:
            return
        time.sleep(0.05)
    raise AssertionError(f"{waiting} bytes in the pipe after a minute")


@pytest.mark.parametrize(("wrong", "message"), [({"bank": 12}, "bank = 12"), ({"workers": 0}, "workers = 0"),
                                                ({"seed": -1}, "seed = -1"), ({"textures": "/nowhere"}, "/nowhere")])
def test_bad_arguments_are_named(wrong, message):
    with pytest.raises(InputError, match=message):
        WorldStream(SIZE, **({"views": 2, "batch": 1, "device": "cpu", "workers": 1, "bank": 16} | wrong))

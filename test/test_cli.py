"""The command line, end to end: a room, a network that knows it, and the files that come out."""
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from mapping.room import FakeNetwork, K, frames, walk

from lsm_ros import cli
from lsm_ros.config import MapperConfig, PredictorConfig
from lsm_ros.data import outputs
from lsm_ros.data.sequences import FolderSequence
from lsm_ros.errors import InputError
from lsm_ros.evaluation.run import read_trajectory
from lsm_ros.geometry.alignment import align_trajectory
from lsm_ros.labels import LabelSet
from lsm_ros.mapping import mapper as mapper_module
from lsm_ros.mapping.mapper import Mapper
from lsm_ros.model import engine

POSES = walk(24)
DATA = Path(__file__).parents[1].parent / "shared/data"


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A folder of the truth layout, and the network that has seen it, in the place of the real one."""
    folder = tmp_path / "room"
    for name in ("color", "pose"):
        (folder / name).mkdir(parents=True)
    K_cv = K.copy()
    K_cv[:2, 2] -= 0.5
    np.savetxt(folder / "intrinsics.txt", K_cv)
    for index, (frame, pose) in enumerate(zip(frames(POSES), POSES, strict=True)):
        cv2.imwrite(str(folder / f"color/{index:06}.png"), frame.image[..., ::-1])
        np.savetxt(folder / f"pose/{index:06}.txt", pose)

    def open_network(config: PredictorConfig) -> FakeNetwork:
        network = FakeNetwork(POSES, LabelSet.load(), outliers=0.05)
        network.labels, network.config = LabelSet.load(), config
        return network

    monkeypatch.setattr(engine, "NetworkPredictor", open_network)
    return folder


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing the map takes a second, and test_map_writes_what_it_promises has it drawn."""
    monkeypatch.setattr(outputs, "map_picture", lambda *_, **__: np.zeros((9, 16, 3), np.uint8))


def test_map_writes_what_it_promises(room, tmp_path, capsys):
    assert cli.main(["map", str(room), "-o", str(tmp_path / "out"), "--voxel", "0.1", "--views", "3"]) == 0
    out = tmp_path / "out"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["options"]["map"]["voxel_size_m"] == 0.1 and summary["options"]["map"]["window_views"] == 3
    assert summary["counters"]["frames"] == 24 and summary["points"] > 1000
    trajectory = read_trajectory(out / "trajectory.txt")
    truth = {index * 100_000_000: pose for index, pose in enumerate(POSES)}
    _, error_m = align_trajectory(np.array([T[:3, 3] for _, T in trajectory]),
                                  np.array([truth[stamp][:3, 3] for stamp, _ in trajectory]))
    pictures = {path.name: path.stat().st_size for path in (out / "pictures").iterdir()}
    assert set(pictures) == {"map_by_colour.png", "map_by_class.png", "frames.png"} and min(pictures.values()) > 20_000
    assert len(trajectory) == summary["counters"]["windows"] > 10 and error_m < 0.15
    assert summary["trajectory_errors"]["ate_sim3_m"] == pytest.approx(error_m, abs=1e-4)
    told = capsys.readouterr().out
    assert "24 frames" in told and f"{summary['points']:,} points" in told and "cloud.ply" in told and "ATE" in told


def test_a_folder_whose_name_is_no_utf8_is_mapped(room, tmp_path, no_pictures):
    """As archives from elsewhere unpack: K\xfcche in Latin-1. It ended in a traceback after all the work."""
    try:
        source = room.rename(tmp_path / os.fsdecode(b"K\xfcche"))
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert cli.main(["map", str(source), "-o", str(tmp_path / "out"), "--max-frames", "6"]) == 0
    assert json.loads((tmp_path / "out/summary.json").read_text("utf8"))["source"] == str(source)


@pytest.mark.parametrize(("options", "told"), [
    (["odometry"], True), (["depth"], True), (["height"], True), (["network"], False), (["auto"], False),
    (["fixed", "--scale-factor", "2"], False)])
def test_a_metre_that_is_another_than_the_one_asked_for_is_told(room, tmp_path, no_pictures, capsys, options, told):
    assert cli.main(["map", str(room), "-o", str(tmp_path / "out"), "--max-frames", "6",
                     "--scale-source", *options]) == 0
    said = f"--scale-source {options[0]}: too little told it; the map's metre is that of network"
    assert (said in capsys.readouterr().err) == told


def test_frames_that_cannot_be_used_are_told_and_left_out(room, tmp_path, no_pictures, capsys):
    cv2.imwrite(str(room / "color/000007.png"), np.zeros((60, 80, 3), np.uint8))
    (room / "color/000009.png").write_bytes(b"damaged")
    assert cli.main(["map", str(room), "-o", str(tmp_path / "out")]) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["unreadable"] == 1 and summary["counters"]["bad_resolutions"] == 1
    assert "frame left out: image is 80 x 60" in capsys.readouterr().err


def test_frames_whose_stamps_go_back_are_told_once_and_counted(room, tmp_path, no_pictures, monkeypatch, capsys):
    def late(self, frame, *_):
        return push(self, replace(frame, stamp_ns=frame.stamp_ns % 1_200_000_000))      # of the second half of 24

    push = Mapper.push
    monkeypatch.setattr(Mapper, "push", late)
    assert cli.main(["map", str(room), "-o", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert told.count("frame left out: stamp 0 ns is not after 1100000000 ns") == told.count("frame left out") == 1
    assert "lsm: 12 of 24 frames were left out" in told and "reset" not in told


@pytest.mark.parametrize(("broken", "saved"), [(20, True), (0, False)])
def test_what_was_mapped_before_the_source_failed_is_saved(room, tmp_path, no_pictures, monkeypatch, capsys, broken,
                                                           saved):
    def failing(sequence):
        yield from islice(whole(sequence), broken)
        raise InputError(f"{sequence.images[broken]} is where it fails")

    whole = FolderSequence.__iter__
    monkeypatch.setattr(FolderSequence, "__iter__", failing)
    assert cli.main(["map", str(room), "-o", str(tmp_path / "out")]) == 2
    assert f"{broken:06}.png is where it fails" in capsys.readouterr().err
    assert (tmp_path / "out").exists() == saved
    if saved:
        assert json.loads((tmp_path / "out/summary.json").read_text())["counters"]["frames"] == broken


def test_truth_that_is_damaged_takes_nothing_from_the_map(room, tmp_path, no_pictures, caplog):
    (room / "depth").mkdir()
    for index in (0, 7):
        (room / f"depth/{index:06}.png").write_bytes(b"damaged")
    assert cli.main(["map", str(room), "-o", str(tmp_path / "out")]) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["counters"]["frames"] == 24 and summary["trajectory_errors"]["ate_sim3_m"] < 0.15
    assert caplog.text.count("depth/000000.png") == 1 and "000007" not in caplog.text


def test_a_map_is_saved_though_the_camera_was_lost_after_it(room, tmp_path, no_pictures, monkeypatch, capsys):
    monkeypatch.setattr(mapper_module, "GIVE_UP_AFTER", 4)
    open_network = engine.NetworkPredictor

    def lose_the_camera(config):
        network = open_network(config)
        network._nonsense = range(12, 1000)
        return network

    monkeypatch.setattr(engine, "NetworkPredictor", lose_the_camera)
    assert cli.main(["map", str(room), "-o", str(tmp_path / "out")]) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["counters"]["new_maps"] == 1 and summary["points"] > 1000
    assert 8 < len(read_trajectory(tmp_path / "out/trajectory.txt")) <= 12
    assert "the largest is saved" in capsys.readouterr().err


def test_the_progress_bar_does_not_build_the_map(room, tmp_path, no_pictures, monkeypatch, capsys):
    whole, built = Mapper.map_cloud, []
    monkeypatch.setattr(Mapper, "map_cloud", lambda mapper: built.append(1) or whole(mapper))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.main(["map", str(room), "-o", str(tmp_path / "out")]) == 0
    assert len(built) == 1 and re.search(r"voxels=\d+,\d{3}", capsys.readouterr().err)


def test_max_frames_and_stride(room, tmp_path, no_pictures):
    assert cli.main(["map", str(room), "-o", str(tmp_path / "out"), "--max-frames", "4", "--stride", "2"]) == 0
    assert json.loads((tmp_path / "out/summary.json").read_text())["counters"]["frames"] == 4


def test_ctrl_c_finishes_and_saves(room, tmp_path, no_pictures, monkeypatch, capsys):
    push = Mapper.push

    def interrupted(self, frame):
        if self.counters.frames == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return push(self, frame)

    monkeypatch.setattr(Mapper, "push", interrupted)
    before = signal.getsignal(signal.SIGINT)
    assert cli.main(["map", str(room), "-o", str(tmp_path / "out")]) == 130
    assert json.loads((tmp_path / "out/summary.json").read_text())["counters"]["frames"] == 7
    assert "Ctrl-C again gives it up" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_twice_gives_up(room, tmp_path, monkeypatch):
    def interrupted(self, frame):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Mapper, "push", interrupted)
    assert cli.main(["map", str(room), "-o", str(tmp_path / "out")]) == 130
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("arguments", "said"), [
    (["map", "nowhere.mp4"], "lsm: nowhere.mp4 does not exist\n"),
    (["map", ".", "--views", "99"], "lsm: window_views = 99 is above its maximum 8\n"),
    (["map", ".", "--image-topic", "/left"], "lsm: . is no rosbag2, so it has no topic /left\n"),
    (["map", ".", "--device", "tpu9"], "tpu9"),
    (["map", ".", "--weights", "nowhere.safetensors"], "nowhere.safetensors"),
    (["labels", "--labels", "nowhere.yaml"], "nowhere.yaml"),
])
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("image.png", np.zeros((48, 64, 3), np.uint8))
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and told.startswith("lsm: ")


@pytest.mark.parametrize(("command", "method"), [("map", "iterdir"), ("map", "stat"), ("view", "stat"),
                                                 ("eval", "iterdir")])
def test_a_folder_without_permission_is_one_line_and_exit_code_2(room, monkeypatch, capsys, command, method):
    def refuse(path, *arguments, **options):
        if room in (path, *path.parents):
            raise PermissionError(13, "Permission denied", str(path))
        return before(path, *arguments, **options)

    before = getattr(Path, method)
    monkeypatch.setattr(Path, method, refuse)
    assert cli.main([command, str(room)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("lsm: ") and f"Permission denied: '{room}" in told and told.count("\n") == 1


@pytest.mark.parametrize("arguments", [["map", "x", "--stride", "0"], ["map", "x", "--intrinsics", "1,2,3"], ["fly"],
                                       ["map", "x", "--rate", "nan"],
                                       []])
def test_bad_usage_is_exit_code_2(arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2


def test_black_frames_make_no_map(tmp_path, room, capsys):
    black = tmp_path / "black"
    black.mkdir()
    for index in range(3):
        cv2.imwrite(str(black / f"{index}.png"), np.zeros((120, 160, 3), np.uint8))
    assert cli.main(["map", str(black), "-o", str(tmp_path / "out")]) == 2
    assert "could be mapped: 3 frames, 3 dark frames" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_image_alone_is_told_why_it_makes_no_map(room, tmp_path, no_pictures, capsys):
    arguments = ["map", str(room), "-o", str(tmp_path / "out"), "--max-frames", "1"]
    assert cli.main(arguments) == 2 and not (tmp_path / "out").exists()
    assert "1 keyframes, 1 windows; a point is shown once 2 keyframes have seen it (--min-observations)" in \
        capsys.readouterr().err
    assert cli.main([*arguments, "--min-observations", "1"]) == 0


def test_a_full_disk_is_told(room, tmp_path, no_pictures, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert cli.main(["map", str(room), "-o", str(tmp_path / "out"), "--max-frames", "6"]) == 2
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(("output", "said"), [("room/intrinsics.txt", "Not a directory"),
                                               ("room/intrinsics.txt/out", "Not a directory"), ("/proc/out", "/proc")])
def test_a_folder_that_takes_no_files_is_told_before_anything_is_mapped(room, monkeypatch, capsys, output, said):
    monkeypatch.setattr(Mapper, "push", None)
    assert cli.main(["map", str(room), "-o", str(room.parent / output)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"lsm: the map can't be written into {room.parent / output}: ") and said in told


@pytest.mark.parametrize(("name", "said"), [("out", "No such file or directory"),
                                            ("out/pictures", "pictures is no folder")])
def test_a_link_that_leads_nowhere_is_told_before_anything_is_mapped(room, monkeypatch, capsys, name, said):
    """To a disk that is not mounted: the map was lost when all was mapped."""
    monkeypatch.setattr(Mapper, "push", None)
    place = room.parent / name
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(room / "nowhere/out")
    assert cli.main(["map", str(room), "-o", str(room.parent / "out")]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"lsm: the map can't be written into {room.parent}/out: ") and said in told


def test_help_tells_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit):
        cli.main(["map", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for config in (PredictorConfig(), MapperConfig()):
        for name in vars(config):
            assert f"--{name.replace('_', '-')} " in told
    assert f"default {MapperConfig().voxel_size_m}" in told and "cloud.ply" in told


def test_intrinsics():
    assert cli.read_intrinsics("none") is None and cli.read_intrinsics("source") == "source"
    assert cli.read_intrinsics("1,2,3,4").tolist() == [[1, 0, 3], [0, 2, 4], [0, 0, 1]]


def test_labels_are_printed(capsys):
    assert cli.main(["labels"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 40 and lines[13].split()[0] == "13" and lines[13].endswith("chair")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf8"])
def test_an_output_that_lacks_a_character_gets_it_escaped(monkeypatch, encoding):
    """lsm eval's table holds δ, and ended in a traceback where that was piped in Latin-1."""
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setitem(cli.DELEGATES, "eval", lambda _: print("δ \udcfc"))
    assert cli.main(["eval"]) == 0
    out.flush()
    delta = "δ" if encoding == "utf8" else "\\u03b4"
    assert out.buffer.getvalue().decode(encoding) == f"{delta} \\udcfc\n"


@pytest.mark.parametrize("command", ["demo", "doctor"])
def test_without_ros_it_says_so(capsys, monkeypatch, command):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main([command]) == 2
    assert "has no rclpy" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["lsm", "lsm_node", "lsm_player"])
def test_a_shell_without_the_virtual_environment_is_told(program, tmp_path):
    for name in ("torch", "safetensors"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('none here', name={name!r})")
    script = Path(__file__).parents[1] / "scripts" / program
    ended = subprocess.run([sys.executable, script, *(["labels"] if program == "lsm" else [])], text=True,
                           capture_output=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert ended.returncode and not ended.stdout
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith(f"{program}: {sys.executable} has no ") and "README.md" in ended.stderr


def test_whoever_reads_the_output_may_have_enough_of_it():
    code = "import sys; from lsm_ros import cli; sys.exit(cli.main(['labels']))"
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_help_and_version_do_not_wait_for_torch():
    code = ("import sys; from lsm_ros import cli\ntry: cli.main(['--version'])\nexcept SystemExit: pass\n"
            "print('torch' in sys.modules)")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[0].startswith("lsm ") and told[1] == "False"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data with real sequences is not beside the checkout")
def test_map_a_real_recording_with_the_shipped_weights(tmp_path):
    assert cli.main(["map", str(DATA / "tum_fr3_cabinet_58"), "-o", str(tmp_path), "--max-frames", "20"]) == 0
    assert json.loads((tmp_path / "summary.json").read_text())["points"] > 0

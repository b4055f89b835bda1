"""`lsm bench`, end to end with a small network, and what its parts promise. No time is judged."""
import json
from copy import deepcopy
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from lsm_ros.bench import command, energy, gpu, machine, network, report, sfm, stages, voxels
from lsm_ros.config import PredictorConfig
from lsm_ros.contracts import Frame, Window
from lsm_ros.data.sequences import SequenceFrame
from lsm_ros.errors import ConfigError, InputError, OutputError
from lsm_ros.evaluation.report import BEGIN, END
from lsm_ros.mapping.mapper import Mapper
from lsm_ros.model import engine
from lsm_ros.model.engine import NetworkPredictor
from lsm_ros.model.network import Network, NetworkConfig


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    return NetworkPredictor(PredictorConfig(device="cpu"),
                            Network(NetworkConfig(width=48, heads=2, encoder=1, decoder="af", stem=16)))


def noise(count):
    random = np.random.default_rng(0)
    return [Frame(i, random.integers(0, 255, (48, 64, 3), np.uint8), np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]]))
            for i in range(count)]


def test_the_command_measures_and_writes_what_it_promises(predictor, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "NetworkPredictor", lambda config: predictor)
    for module, name, less in ((machine, "SGEMM", 256), (machine, "COPY_MB", 16), (command, "QUICK_ENERGY_S", .05),
                               (command, "QUICK_SIZES", (1000, 4000))):
        monkeypatch.setattr(module, name, less)
    page, out, plot = tmp_path / "page.md", tmp_path / "out.json", tmp_path / "out.png"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    only = "network,view_counts,resolutions,energy,stages,map_updates"
    assert command.main(["--quick", "--only", only, "--json", str(out), "--plot", str(plot), "--markdown", str(page)]
                        ) == 0
    results = json.loads(out.read_text())
    parts = {line["part"]: line for line in results["network"]}
    assert all(line["ms"] > 0 and line["of_no_tokens"] > 0 for line in parts.values())
    whole = parts.get("the same in float32", parts["new keyframe to prediction, no tokens kept"])
    assert whole["of_no_tokens"] == 1
    assert parts["encode four frames"]["gflop"] == pytest.approx(4 * parts["encode one frame"]["gflop"])
    assert [line["views"] for line in results["view_counts"]] == list(command.QUICK_VIEWS)
    assert [line["of_first"] for line in results["resolutions"]][0] == 1
    assert {"decoding", "keyframe", "network", "fusion"} <= {line["stage"] for line in results["stages"]}
    assert [line["voxels"] >= size for line, size in zip(results["map_updates"], command.QUICK_SIZES)] == [True, True]
    assert results["summary"]["peak_memory_mb"] > 100 and plot.stat().st_size > 1000
    shown, written = capsys.readouterr().out, page.read_text()
    assert "GB/s" in shown and "| ms |" in shown and "| processor |" in shown
    assert "new keyframe to prediction" in written and written.startswith("before") and written.endswith("after\n")
    assert " ms" not in written and "GB/s" not in written, "a page of a CPU tells ratios alone"


def test_bad_paths_are_told_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "measure", None)
    with pytest.raises(InputError, match="no block"):
        (tmp_path / "page.md").write_text("nothing here")
        command.main(["--markdown", str(tmp_path / "page.md")])
    monkeypatch.setattr(sfm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install pycolmap"):
        command.main(["--sfm", str(tmp_path)])
    with pytest.raises(OutputError, match="plot.xyz cannot be written"):
        command.main(["--plot", str(tmp_path / "plot.xyz")])
    with pytest.raises(InputError, match="nowhere.mp4 does not exist"):
        command.main([str(tmp_path / "nowhere.mp4")])
    with pytest.raises(InputError, match="netwrk: the sections are engines, .* sfm"):
        command.main(["--only", "stages,netwrk"])


def test_a_machine_that_is_no_linux_is_described(monkeypatch):
    monkeypatch.delattr(machine.os, "sched_getaffinity")
    assert machine.describe(torch.device("cpu"))["cores"] == machine.os.cpu_count()


class Broken:
    """A bench of which little works."""

    def machine(self):
        return {"cores": 2}

    def peaks(self):
        return {"copy_gbs": 9.0}

    def network(self):
        raise RuntimeError("CUDA error: an illegal memory access\nmore of it")

    def hops(self):
        raise ModuleNotFoundError("No module named 'rclpy'")

    def energy(self):
        return [{"what": "processor", "joules": None, "watts": None}]


def test_a_section_that_fails_or_lacks_something_costs_no_other(capsys):
    kept = []
    results = command.measure(Broken(), ["network", "hops", "energy"], lambda results: kept.append(set(results)))
    assert results["failed"] == {"network": "RuntimeError: CUDA error: an illegal memory access"}
    assert results["left_out"] == {"hops": "No module named 'rclpy'"}
    assert results["peaks"] == {"copy_gbs": 9.0} and results["peak_memory_mb"] > 50
    assert results["energy"] and "energy" in kept[2] and len(kept) == 4
    assert "in network" in capsys.readouterr().err, "where it failed"


def test_without_rosbags_frames_are_made(predictor, monkeypatch):
    def read_frames(*arguments):
        raise ModuleNotFoundError("No module named 'rosbags'")

    monkeypatch.setattr(stages, "read_frames", read_frames)
    bench = command.Bench(SimpleNamespace(quick=True, source=None, compile=False), predictor, PredictorConfig())
    monkeypatch.setattr(command, "QUICK_ENERGY_S", .01)
    assert len(bench.resolutions()) == 2 and len(bench.energy()) == 1
    with pytest.raises(ModuleNotFoundError):
        bench.stages()
    with pytest.raises(ModuleNotFoundError):
        command.Bench(SimpleNamespace(quick=True, source="walk.bag", compile=False), predictor, None).network()


# ------------------------------------------------------------------------------------------- what a GPU is asked for

@pytest.fixture
def small(predictor, monkeypatch):
    """The engines with the small network, on the CPU."""
    network = predictor.network
    monkeypatch.setattr(engine, "load_network", lambda path: (deepcopy(network), {}))
    return PredictorConfig(device="cpu", precision="float32")


def test_engines_are_compared_with_the_reference(small, monkeypatch):
    make = gpu.make

    def fail(name, config):
        if name == gpu.CHANNELS_LAST:
            raise RuntimeError("no kernel image\nis available")
        made = make(name, config)
        if name == gpu.GRAPHS:
            torch.nn.init.normal_(made.network.dense_head.semantics[-1].weight)
        return made

    monkeypatch.setattr(gpu, "make", fail)
    monkeypatch.setattr(gpu, "COMPARED", 2)
    reference, plain, spoilt, failed = gpu.engines(small, noise(16), 1, progress=False)
    assert "agrees" not in reference and plain["agrees"] and plain["depth"] == 0
    assert not spoilt["agrees"] and spoilt["labels"] > gpu.TOLERANCE["labels"] and spoilt["depth"] == 0
    assert failed == {"engine": gpu.CHANNELS_LAST, "failed": "RuntimeError: no kernel image"}
    assert all(line["ms"] > 0 and line["network_ms"] > 0 for line in (reference, plain, spoilt))
    shown = report.engines({"engines": [reference, plain, spoilt, failed]}, True)
    assert shown.count("| yes |") == shown.count("| NO |") == shown.count("failed: RuntimeError") == 1


def test_windows_a_second(small, monkeypatch):
    monkeypatch.setattr(gpu, "USUAL", 2)                    # views of a window
    lines = gpu.throughput(small, noise(4), 1, progress=False, batches=(1,))
    assert [(line["engine"], line["batch"]) for line in lines] == [(gpu.PLAIN, 1), (gpu.CHANNELS_LAST, 1)]
    assert all(line["network_per_s"] > 0 and line["whole_per_s"] > 0 for line in lines)
    assert report.throughput({"throughput": lines}, True).count("|") == 4 * 6


# -------------------------------------------------------------------------------------------------------- energy

def zone(folder, name, microjoules, most=1000, what="package-0"):
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "name").write_text(f"{what}\n")
    (folder / name / "energy_uj").write_text(f"{microjoules}\n")
    (folder / name / "max_energy_range_uj").write_text(f"{most}\n")


def test_energy_of_all_packages_and_of_counters_that_begin_again(tmp_path):
    zone(tmp_path, "intel-rapl:0", 100)
    zone(tmp_path, "intel-rapl:1", 900)
    zone(tmp_path, "intel-rapl:0:0", 5)                  # the cores' own part of package 0
    zone(tmp_path, "intel-rapl:2", 10, what="psys")      # of the whole board, in which the packages are once more
    zones = energy.Zones(tmp_path)
    zones.start()
    zone(tmp_path, "intel-rapl:0", 150)
    zone(tmp_path, "intel-rapl:1", 200)
    zone(tmp_path, "intel-rapl:0:0", 999)
    zone(tmp_path, "intel-rapl:2", 800, what="psys")
    assert zones.joules() == pytest.approx(350e-6)


def test_energy_that_is_not_told(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    line, = energy.per_window(lambda: None, torch.device("cpu"), .01)
    assert line == {"what": "processor", "joules": None, "watts": None}
    assert "not told" in report.energy({"energy": [line]}, True)


def test_windows_slide_by_one_and_no_id_comes_twice():
    windows = network.Windows(noise(3), 4)
    first, second = (windows.window().keyframes for _ in range(2))
    assert first[1:] == second[:-1] and second[-1].id == first[-1].id + 1
    assert second[-1].frame is second[-4].frame, "three frames begin again"


def test_flop_of_a_product(predictor):
    a = torch.rand(30, 40)
    assert network.count_flop(lambda: a @ a.T, predictor) == 2 * 30 * 40 * 30


def test_maps_of_every_size_get_the_same_updates(predictor):
    lines = voxels.map_updates(command.one_view(predictor, noise(1)[0]), 6, (100, 3000), progress=False)
    assert lines[0]["voxels"] < 3000 <= lines[1]["voxels"]
    assert lines[0]["against_smallest"] == 1 and lines[1]["median_ms"] <= lines[1]["worst_ms"]


def test_a_recording_of_nothing_is_refused(predictor):
    black = [Frame(i, np.zeros((48, 64, 3), np.uint8)) for i in range(3)]
    with pytest.raises(InputError, match="nothing of the 3 frames"):
        stages.stages(predictor, black, [0.1] * 3, progress=False)


# ------------------------------------------------------------------------------------------- structure from motion

class Halves:
    """A predictor that sees floor on the left and wall on the right of every image."""

    def __init__(self, labels):
        self.labels = labels

    def reset(self):
        pass

    def __call__(self, window: Window):
        semantics = np.empty((len(window.keyframes), 6, 8, self.labels.embeddings.shape[1]), np.float32)
        semantics[:, :, :4] = self.labels.embeddings[self.labels.index("floor")]
        semantics[:, :, 4:] = self.labels.embeddings[self.labels.index("wall")]
        return type("Prediction", (), {"semantics": semantics})


def test_points_get_the_label_that_most_of_their_pixels_have(predictor):
    labels = predictor.labels
    frames = [SequenceFrame(frame) for frame in noise(3)]
    observed = np.array([(0, 0, .1), (0, 1, .2), (0, 2, .9), (1, 0, .9), (1, 1, .8), (3, 2, .99)])   # point, frame, u
    sparse = sfm.Sparse({0: np.eye(4), 1: np.eye(4), 2: np.eye(4)}, observed[:, 0].astype(int),
                        observed[:, 1].astype(int), np.stack([observed[:, 2], np.full(6, .5)], axis=1), 4)
    found = sfm.lift(Halves(labels), frames, sparse)
    assert found.tolist() == [labels.index("floor"), labels.index("wall"), -1, labels.index("wall")]


def test_the_trajectory_error_counts_frames_with_a_true_pose():
    true = [np.eye(4) for _ in range(5)]
    for number, pose in enumerate(true):
        pose[:3, 3] = (number, number % 2, 0.5 * (number == 2))
    frames = [SequenceFrame(frame, T_world_cam=None if number == 4 else true[number])
              for number, frame in enumerate(noise(5))]
    halved = {number: pose @ np.diag([1, 1, 1, 1.0]) for number, pose in enumerate(true)}
    for pose in halved.values():
        pose[:3, 3] *= 0.5
    assert sfm.ate_m(halved, frames) == pytest.approx(0, abs=1e-9)
    assert sfm.ate_m({0: true[0]}, frames) is None


def test_a_folder_without_truth_is_refused(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        sfm.read_frames(tmp_path / "nowhere", 20, 1)
    for count, gap in ((20, 0), (20, -1), (-1, 4)):
        with pytest.raises(InputError, match=f"--frames {count} --gap {gap}"):
            sfm.read_frames(tmp_path, count, gap)


@pytest.mark.parametrize("way", ["mapped", "chained"])
def test_our_ways_give_poses_by_the_number_of_the_frame(predictor, way, monkeypatch):
    frames = [SequenceFrame(frame) for frame in noise(4)]
    mappers = []
    monkeypatch.setattr(Mapper, "settle", lambda self: mappers.append(self))
    monkeypatch.setattr("lsm_ros.mapping.registration.MOST_ERROR", np.inf)       # this network is sure of nothing
    poses, points, seconds = getattr(sfm, way)(predictor, frames)
    assert set(poses) <= {0, 1, 2, 3} and 0 in poses and points >= 0 and seconds["network"] > 0
    assert mappers[0].config.window_views == (2 if way == "chained" else 4)


def test_structure_from_motion_on_a_textured_wall(tmp_path):
    """COLMAP, where it is installed: a camera that moves along a wall and past a block in front of it."""
    pytest.importorskip("pycolmap")
    random = np.random.default_rng(0)
    far, near = (cv2.resize(random.integers(0, 255, (n, n, 3), np.uint8), (900, 900), interpolation=cv2.INTER_CUBIC)
                 for n in (120, 150))
    images = []
    for step in range(8):
        image = far[200:500, 100 + 12 * step:500 + 12 * step].copy()            # 4 m away, f = 400: 12 pixels a step
        image[80:220, 120:280] = near[280:420, 120 + 24 * step:280 + 24 * step]   # seen through a window at 2 m
        images.append(image)
    K = np.array([[400.0, 0, 200], [0, 400, 150], [0, 0, 1]])
    with sfm.quiet():
        sparse, seconds = sfm.reconstruct(images, K, tmp_path)
    assert set(seconds) == {"features", "matching", "mapping"} and sparse.points > 50
    assert len(sparse.poses) >= 4 and sparse.frame.max() < 8 and sparse.point.max() < sparse.points
    assert (sparse.shares >= 0).all() and (sparse.shares <= 1).all()


def test_a_picture_of_the_results():
    results = {"network": [{"part": "decode four views", "of_no_tokens": .5}],
               "view_counts": [{"views": 4, "kept_of_usual": 1.0}], "stages": [{"stage": "network", "of_network": 1.0}],
               "map_updates": [{"voxels": 10, "against_smallest": 1.0}, {"voxels": 20, "against_smallest": 2.0}]}
    assert len(report.picture({"stages": results["stages"]})) < len(report.picture(results)), "of what was measured"
    picture = report.picture(results)
    dark = (np.abs(picture.astype(int) - report.BAR).sum(-1) == 0).sum(1)
    rows = np.flatnonzero(dark)
    assert dark[rows[-1]] == pytest.approx(2 * dark[rows[-1] - report.ROW], abs=4), "bars are as long as they say"


def test_a_keyframe_is_new_in_each_window(predictor, monkeypatch):
    seen = []
    encode = predictor.network.encode
    monkeypatch.setattr(predictor.network, "encode", lambda *inputs: seen.append(len(inputs[0])) or encode(*inputs))
    windows = network.Windows(noise(6), 4)
    for _ in range(3):
        predictor(windows.window())
    assert seen == [4, 1, 1]
    seen.clear()
    network.view_counts(predictor, noise(6), 1, progress=False, numbers=(1, 2, 4))
    assert sorted(seen) == sorted([1, 1, 1, 1, 2, 2, 2, 4, 4, 4] + [1, 1])


def test_a_keyframe_is_alone_new_beside_another_predictor(predictor, monkeypatch):
    encoded, take_turns = [], network.take_turns
    encode = predictor.network.encode
    monkeypatch.setattr(predictor.network, "encode", lambda *inputs: encoded.append(len(inputs[0])) or encode(*inputs))

    def listened(calls, *others):
        times = take_turns(calls, *others)
        for name in (network.KEPT, network.FLOAT32, network.KEPT):
            encoded.clear()
            calls[name]()
        return times

    monkeypatch.setattr(network, "take_turns", listened)
    predictor.bfloat16 = True                     # so that float32 is measured beside it
    network.parts(predictor, noise(6), 1, progress=False)
    assert encoded == [1]

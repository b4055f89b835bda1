import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lsm_ros.contracts import Frame, Keyframe, Window
from lsm_ros.errors import ConfigError, InputError, LsmError, OutputError
from lsm_ros.evaluation import benchmark, report
from lsm_ros.evaluation.baseline import SiftBaseline
from lsm_ros.evaluation.datasets import FolderWindows, TruthWindow, WorldStyle, WorldWindows
from lsm_ros.evaluation.scores import score_window
from lsm_ros.geometry.camera import project, unproject
from lsm_ros.geometry.sim3 import exp_so3, rotation_angle, sim3, transform
from lsm_ros.labels import LabelSet
from lsm_ros.model.engine import NetworkPredictor
from lsm_ros.model.network import Network, NetworkConfig
from lsm_ros.model.weights import read_card, save_weights

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no real sequences in ../shared/data beside the checkout")


def test_a_predictor_that_knows_the_truth_makes_no_error(folder, truth_predictor):
    refined, alone = benchmark.score_set(truth_predictor(folder), "known", FolderWindows(folder, 3, 2), progress=False)
    assert alone["set"] == "known: network alone"
    for line in (refined, alone):                            # noise has no matches, so nothing is refined
        assert line["windows"] == 4 and not line["intrinsics"]
        for name in ("auc5", "auc15", "auc30", "auc30_pairs", "delta125", "delta125_metric", "miou", "miou_lsm8",
                     "accuracy"):
            assert line[name] == pytest.approx(1), name
        for name in ("rotation_deg_median", "translation_deg_median", "absrel", "absrel_metric", "focal_err_median",
                     "scale_err_median"):
            assert line[name] == pytest.approx(0, abs=1e-4), name


def test_labels_that_are_none_of_ours_give_no_figures(folder, truth_predictor, tmp_path):
    """As the 255 of pixels that nobody has labelled: NaN is no JSON."""
    unlabelled = shutil.copytree(folder, tmp_path / "unlabelled")
    for path in (unlabelled / "label").iterdir():
        cv2.imwrite(str(path), np.full((60, 80), 255, np.uint8))
    line, = benchmark.score_set(truth_predictor(folder), "known", FolderWindows(unlabelled, 2, 1), progress=False,
                                refine=False)
    assert "auc30" in line and not {"miou", "miou_lsm8", "accuracy"} & set(line)


def test_a_wrong_scale_is_seen_in_the_metric_figures_only(folder, truth_predictor):
    line, = benchmark.score_set(truth_predictor(folder, 1.3), "scaled", FolderWindows(folder, 2, 1), progress=False,
                                refine=False)
    assert line["auc30"] == 1 and line["absrel"] == pytest.approx(0, abs=1e-6) and line["delta125"] == 1
    assert line["scale_err_median"] == pytest.approx(0.3, abs=1e-5)
    assert line["absrel_metric"] == pytest.approx(0.3, abs=1e-5) and line["delta125_metric"] == 0


def test_windows_of_one_view_have_no_pose_figures(folder, truth_predictor):
    line, sift = benchmark.score_set(truth_predictor(folder), "single", FolderWindows(folder, 1, 1), progress=False,
                                     baseline=True)
    assert "auc30" not in line and line["absrel"] == pytest.approx(0, abs=1e-6)
    assert sift == {"set": "single: SIFT", "intrinsics": True, "windows": line["windows"]}


def test_what_views_share_does_not_hang_on_the_size_of_the_depth(folder, truth_predictor):
    for number, x in enumerate((0.0, 0.7)):
        np.savetxt(folder / f"pose/{number:06}.txt", sim3(np.eye(3), np.array([x, 0, 0])))
        cv2.imwrite(str(folder / f"depth/{number:06}.png"), np.full((60, 80), 2000, np.uint16))

    def shared():
        truth = FolderWindows(folder, 2, 1)[0]
        return score_window(truth_predictor(folder)(truth.window), truth, LabelSet.load()).distances.overlap[0, 1]

    fine = shared()
    for number in range(2):
        cv2.imwrite(str(folder / f"depth/{number:06}.png"), np.full((30, 40), 2000, np.uint16))
    assert shared() == pytest.approx(fine, abs=.03) == pytest.approx(1 - .7 / 2 * 70 / 80, abs=.05)


def test_boxes_of_the_true_labels(folder, truth_predictor):
    label = np.full((60, 80), 13, np.uint8)                  # chair
    label[:, 40:] = 0                                        # wall
    cv2.imwrite(str(folder / "label/000002.png"), label)
    boxes = folder.parent / "boxes/boxes.json"
    boxes.parent.mkdir()
    boxes.write_text(json.dumps({"sequence/color/000002.jpg": [{"cls": "armchair", "box": [0, 0, 0.5, 1]},
                                                               {"cls": "wall", "box": [0.25, 0, 0.75, 1]}]}))
    line = benchmark.score_boxes(truth_predictor(folder), boxes)
    assert line["box_score"] == line["box_class_score"] == pytest.approx(0.75)
    assert line["box_score_by_class"] == {"armchair": 1.0, "wall": 0.5} and line["boxes"] == 2


@pytest.fixture
def known_truth(folder, truth_predictor, monkeypatch):
    """`lsm eval` with a predictor that knows the truth of `folder`."""
    predictor = truth_predictor(folder)
    monkeypatch.setattr(benchmark, "NetworkPredictor", lambda config: predictor)
    return predictor


def test_command_on_a_folder(folder, known_truth, tmp_path, capsys):
    benchmark.main([str(folder), "--views", "2", "--gap", "1", "--intrinsics", "--baseline", "sift",
                    "--json", str(tmp_path / "out.json"), "--pictures", str(tmp_path / "pictures"),
                    "--montage", str(tmp_path / "montage.jpg")])
    result = json.loads((tmp_path / "out.json").read_text())
    assert list(result) == ["rotation_deg_median", "translation_deg_median", "auc5", "auc15", "auc30", "absrel",
                            "delta125", "focal_err_median", "scale_err_median", "box_score", "box_class_score",
                            "windows", "by_overlap", "more"]
    assert result["auc30"] == 1 and result["windows"] == 5 and result["box_score"] is None
    assert result["more"]["intrinsics"] and all(known_truth.shown_K)
    assert result["more"]["sift"]["auc30"] < 0.5         # noise has no features in common
    assert sum(row["pairs"] for row in result["by_overlap"]) == 5
    assert all(row["auc30"] == row["auc30_alone"] == 1 for row in result["by_overlap"])
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == [f"sequence-2-views-1-apart-{rank}.png" for rank in ("best", "median", "worst")]
    assert 0 < (tmp_path / "montage.jpg").stat().st_size < 500_000
    scores, distances = capsys.readouterr().out.strip().split("\n\n")
    assert scores.startswith("| set | K | windows |") and distances.startswith("| set | K | views |")
    for table in (scores, distances):
        assert len({row.count("|") for row in table.splitlines()}) == 1


def test_command_with_a_border(folder, known_truth, tmp_path, capsys):
    shown = []
    for border in ([], ["--border", "bars"]):
        benchmark.main([str(folder), "--views", "2", "--gap", "1", "--json", str(tmp_path / "out.json"), *border])
        line = json.loads((tmp_path / "out.json").read_text())
        assert line["auc30"] == line["delta125"] == 1 and line["windows"] == 5
        shown.append(capsys.readouterr().out)
    assert "| sequence, 2 views 1 apart |" in shown[0] and "border" not in shown[0]
    assert "| sequence, 2 views 1 apart, border bars |" in shown[1]


def test_command_with_a_turned_camera(folder, known_truth, tmp_path, capsys):
    benchmark.main([str(folder), "--views", "2", "--gap", "1", "--turned", "270"])
    assert "| sequence, 2 views 1 apart, turned 270 |" in capsys.readouterr().out


@pytest.mark.parametrize(("option", "arguments"), [
    (option, arguments) for option in (["--border", "frame"], ["--turned", "90"])
    for arguments in (["worlds"], ["walk", "sequence"], ["sequence", "--boxes", "boxes.json"])
    if (option[0], arguments[0]) != ("--turned", "walk")])
def test_what_would_not_be_done_to_images_is_refused(arguments, option):
    with pytest.raises(ConfigError, match=f"{' '.join(option)} goes with a FOLDER"):
        benchmark.main([*arguments, *option])


def remove_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


DAMAGE = {
    "no images": lambda folder: remove_all(folder / "color"),
    "needs its pose": lambda folder: remove_all(folder / "pose"),
    "needs its pose and depth": lambda folder: remove_all(folder / "depth"),
    "000002.txt is no 4x4": lambda folder: np.savetxt(folder / "pose/000002.txt", np.eye(4)[:3]),
    "pose/000002.txt": lambda folder: (folder / "pose/000002.txt").write_text("here\n"),
    "intrinsics.txt": lambda folder: (folder / "intrinsics.txt").write_text("fx fy\n"),
    "sequence .* shape": lambda folder: (folder / "intrinsics.txt").write_text("70 70 40 30\n"),
    "focal": lambda folder: np.savetxt(folder / "intrinsics.txt", np.diag([0, 0, 1])),
    "color/000002.jpg": lambda folder: (folder / "color/000002.jpg").write_bytes(b"no image"),
    "depth/000002.png": lambda folder: (folder / "depth/000002.png").write_bytes(b"no image"),
    "000002.png": lambda folder: cv2.imwrite(str(folder / "depth/000002.png"), np.ones((10, 10), np.uint16)),
    "no folder .*sequence": lambda folder: folder.rename(folder.with_name("elsewhere")),
}


@pytest.mark.parametrize("named", DAMAGE)
def test_a_bad_folder_is_one_clear_error(folder, known_truth, named):
    DAMAGE[named](folder)
    with pytest.raises(LsmError, match=named):
        benchmark.main([str(folder), "--views", "2", "--gap", "1"])


def test_what_is_wrong_is_told_in_one_line(tmp_path):
    """As `lsm eval` does."""
    command = [sys.executable, "-m", "lsm_ros.evaluation.benchmark", str(tmp_path / "nowhere")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [f"lsm: there is no folder {tmp_path / 'nowhere'}"]


def test_frames_without_any_depth_or_pose_are_left_out(folder, known_truth, tmp_path):
    (folder / "pose/000002.txt").write_text("nan " * 16)
    cv2.imwrite(str(folder / "depth/000004.png"), np.zeros((60, 80), np.uint16))
    benchmark.main([str(folder), "--views", "1", "--json", str(tmp_path / "out.json")])
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["windows"] == 5 and result["absrel"] == pytest.approx(0, abs=1e-6) and result["auc30"] is None


def test_command_on_everything(folder, known_truth, tmp_path, monkeypatch):
    asked = {}
    for name in ("score_worlds", "score_other_cameras", "score_kinds", "score_own_words"):
        line = {"set": name, "intrinsics": False, "auc30": 0.5}
        monkeypatch.setattr(benchmark, name, lambda *args, line=line, **_: asked.update({line["set"]: args}) or [line])
    monkeypatch.setattr(benchmark, "DEFAULT_GAPS", (1, 2))
    out = tmp_path / "out.json"
    benchmark.main(["all", "--data", str(folder.parent), "--meshes", "models.npz", "--json", str(out)])
    lines = json.loads(out.read_text())
    assert [(line["set"], line["intrinsics"]) for line in lines] == [
        ("score_worlds", False), ("score_other_cameras", False), ("score_kinds", False),
        *((f"sequence, 4 views {gap} apart{line}", known) for gap in (1, 2) for known in (False, True)
          for line in ("", ": network alone")), ("score_own_words", False)]
    assert all(arguments[1:3] == (benchmark.WORLDS, WorldStyle(None, "models.npz")) for arguments in asked.values())


def test_rendered_worlds_are_scored_once_more_as_other_cameras_see_them(known_truth, monkeypatch):
    class Named:
        def __init__(self, worlds, size=(192, 256), views=4, intrinsics=False, device="", style=None):
            self.name, self.intrinsics = f"{worlds} {style.name}, {views} views", intrinsics
            self.name += f", {size[0]} high" * (size[0] != 192)

    monkeypatch.setattr(benchmark, "WorldWindows", Named)
    monkeypatch.setattr(benchmark, "score_set", lambda _, name, windows, **__: [(name, windows.intrinsics)])
    predictor = benchmark.NetworkPredictor(None)
    assert benchmark.score_worlds(predictor, 5) == [
        (f"5 rendered worlds, {views} views", known) for views, known in
        ((1, False), (2, False), (4, False), (4, True), (8, False))]
    assert benchmark.score_other_cameras(predictor, 5) == [
        *((f"5 rendered worlds and {kind}, 4 views", False) for kind in
          ("automatic cameras", "borders", "rolled cameras", "flat pictures", "things that move", "low cameras")),
        ("5 rendered worlds, 4 views, 256 high", False)]


def test_scoreboard_into_the_card_and_the_page(folder, known_truth, tmp_path, monkeypatch, capsys):
    weights, page = tmp_path / "small.safetensors", tmp_path / "README.md"
    network = Network(NetworkConfig(width=48, heads=2, encoder=1, decoder="a", stem=16, embedding=8))
    save_weights(weights, network, network.state_dict(), card={"steps": 3})
    page.write_text(f"{report.BEGIN}{report.END}")
    line = {"set": "worlds", "intrinsics": False, "auc30": 0.123456, "by_word": {"sofa": 1.0},
            "by_overlap": [{"from": 0.0, "to": 0.1, "pairs": 3, "rotation_deg_median": 1.0, "auc30": 0.5}]}
    monkeypatch.setattr(benchmark, "score_all", lambda *_, **__: [line])
    benchmark.main(["all", "--card", str(weights), "--markdown", str(page), "--worlds", "5"])
    printed = capsys.readouterr().out
    card = read_card(weights)
    assert card["steps"] == 3 and card["scoreboard_worlds"] == {
        "worlds": 5, "precision": "float32", "textures": False, "meshes": False}
    assert card["scoreboard"][0]["auc30"] == 0.1235 and "by_word" not in card["scoreboard"][0]
    assert "| worlds | .12 |" in page.read_text()
    benchmark.main(["card", "--weights", str(weights)])
    assert capsys.readouterr().out == printed


def test_card_without_a_scoreboard(tmp_path):
    network = Network(NetworkConfig(width=48, heads=2, encoder=1, decoder="a", stem=16, embedding=8))
    save_weights(tmp_path / "small.safetensors", network, network.state_dict(), card={})
    with pytest.raises(InputError, match="small.safetensors has no scoreboard"):
        benchmark.main(["card", "--weights", str(tmp_path / "small.safetensors")])


@pytest.mark.parametrize("option", ["--json", "--markdown"])
def test_a_place_that_cannot_be_written_is_known_at_once(folder, known_truth, tmp_path, option):
    with pytest.raises(LsmError, match="no_folder"):
        benchmark.main([str(folder), option, str(tmp_path / "no_folder/out")])
    assert not known_truth.shown_K


@pytest.mark.parametrize("arguments", [["--json", "."], ["--boxes", "none.json"]])
def test_what_cannot_be_read_or_written_is_known_before_minutes_are_spent(known_truth, arguments):
    """Of `words`: a folder's own rectangles are read first in any case."""
    with pytest.raises(LsmError, match="cannot be"):
        benchmark.main(["words", *arguments])
    assert not known_truth.shown_K


def test_words_are_scored_without_rectangles_where_the_data_have_none(tmp_path):
    assert benchmark.find_boxes(tmp_path) is None and benchmark.find_boxes(None) is None
    (tmp_path / "semantic_boxes").mkdir()
    (tmp_path / benchmark.BOXES).touch()
    assert benchmark.find_boxes(tmp_path) == tmp_path / benchmark.BOXES


@pytest.mark.parametrize(("option", "name", "said"), [
    ("--montage", "montage.xyz", "'.xyz' is none of a picture"), ("--montage", "montage", "'' is none of a picture"),
    ("--pictures", "sequence/intrinsics.txt", "intrinsics.txt: it is no folder")])
def test_pictures_that_cannot_be_written_are_known_at_once(folder, known_truth, option, name, said):
    with pytest.raises(OutputError, match=said):
        benchmark.main([str(folder), option, str(folder.parent / name)])
    assert not known_truth.shown_K


@pytest.mark.parametrize("options", [["worlds"], ["all", "--weights", "other.safetensors"]])
def test_a_card_is_written_for_the_weights_that_were_scored(options):
    with pytest.raises(ConfigError, match="--card mine.safetensors"):
        benchmark.main([*options, "--card", "mine.safetensors"])


def test_baseline_finds_the_pose_of_a_textured_scene():
    rng = np.random.default_rng(0)
    K = np.array([[400.0, 0, 240], [0, 400, 180], [0, 0, 1]])
    texture = cv2.GaussianBlur(rng.integers(0, 255, (1200, 1600), np.uint8), (0, 0), 2)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)

    def view(T_world_cam: np.ndarray) -> np.ndarray:
        """Two textured planes: z = 4 m on the left of the world, z = 5 m on the right."""
        T_cam_world = np.linalg.inv(T_world_cam)
        image = np.zeros((360, 480), np.uint8)
        for z, side in ((5.0, slice(800, 1600)), (4.0, slice(0, 800))):
            plane = np.zeros_like(texture)
            plane[:, side] = texture[:, side]
            to_world = np.array([[1 / 200, 0, -4], [0, 1 / 200, -3], [0, 0, z]])       # texels of 5 mm
            H = K @ (T_cam_world[:3, :3] @ to_world + np.outer(T_cam_world[:3, 3], (0, 0, 1)))
            seen = cv2.warpPerspective(plane, H, (480, 360))
            image = np.where(seen > 0, seen, image)
        return np.stack([image] * 3, axis=-1)

    T_world_cam = np.stack([np.eye(4), sim3(exp_so3(np.array([0.02, -0.06, 0.01])), np.array([0.5, 0.1, 0.2]))])
    keyframes = tuple(Keyframe(i, Frame(i, view(T))) for i, T in enumerate(T_world_cam))
    truth = TruthWindow(Window(keyframes), T_world_cam, np.stack([K, K]), np.ones((2, 360, 480)), None)
    T_a_b, = SiftBaseline()(truth, np.array([[0, 1]]))
    assert np.rad2deg(rotation_angle(T_a_b[:3, :3], T_world_cam[1, :3, :3])) < 1
    direction = T_world_cam[1, :3, 3] / np.linalg.norm(T_world_cam[1, :3, 3])
    assert np.rad2deg(np.arccos(direction @ T_a_b[:3, 3])) < 5


class Few:
    """Every n-th window of a set, so that a test stays short."""

    def __init__(self, windows, step: int):
        self.windows, self.step, self.intrinsics = windows, step, windows.intrinsics

    def __len__(self) -> int:
        return len(range(0, len(self.windows), self.step))

    def __getitem__(self, index: int) -> TruthWindow:
        return self.windows[index * self.step]


@pytest.fixture(scope="module")
def shipped() -> NetworkPredictor:
    predictor = NetworkPredictor()
    assert predictor.card["steps"] > 0, "the weights in lsm_ros/weights are untrained"
    return predictor


# Floors under the shipped weights: four fifths of what they score on these windows, so that a change that makes them
# worse is seen. `lsm eval all` gives the whole scoreboard.

@pytest.mark.slow
def test_floor_on_rendered_worlds(shipped):
    line, = benchmark.score_set(shipped, "worlds", WorldWindows(8, views=4), progress=False, refine=False)
    assert line["auc30"] > 0.5 and line["absrel"] < 0.045 and line["miou_lsm8"] > 0.7


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(("name", "gap", "auc30", "absrel"), [("hololens_dvmvs_000", 4, 0.78, 0.12),
                                                              ("tum_fr3_cabinet_58", 1, 0.8, 0.11)])
def test_floor_on_real_sequences(shipped, name, gap, auc30, absrel):
    windows = FolderWindows(DATA / name, 4, gap)
    refined, alone = benchmark.score_set(shipped, name, Few(windows, max(1, len(windows) // 30)), progress=False)
    assert refined["auc30"] > auc30 and alone["absrel"] < absrel
    assert refined["auc30"] > alone["auc30"] + 0.05, "refining by the image has to help"


@needs_data
@pytest.mark.slow
def test_floor_on_real_labels(shipped):
    line = benchmark.score_boxes(shipped, DATA / benchmark.BOXES)
    assert line["box_score"] > 0.66 and line["box_class_score"] > 0.62


@pytest.mark.slow
def test_floor_on_own_words(shipped):
    lines = {line["set"]: line for line in benchmark.score_own_words(shipped, worlds=8, progress=False)}
    assert lines["words: names alone"]["miou_kept"] > 0.7
    assert lines["words: one never trained, the rest as shipped"]["miou_kept"] > 0.5


@needs_data
def test_real_truth_is_consistent():
    """Depth of one view, moved by the true poses, must be the depth of another: poses, intrinsics and depth agree."""
    truth = FolderWindows(DATA / "hololens_dvmvs_000", 2, 2)[40]
    points = unproject(truth.depth[0], truth.K[0]).reshape(-1, 3).astype(np.float64)
    points = points[np.isfinite(points).all(1)]
    T_b_a = np.linalg.inv(truth.T_world_cam[1]) @ truth.T_world_cam[0]
    pixels, z = project(transform(T_b_a, points), truth.K[1])
    height, width = truth.depth[1].shape
    inside = (z > 0) & (pixels >= 0).all(1) & (pixels < (width, height)).all(1)
    columns, rows = pixels[inside].astype(int).T
    ratio = z[inside] / truth.depth[1][rows, columns]
    assert np.nanmedian(np.abs(ratio - 1)) < 0.03


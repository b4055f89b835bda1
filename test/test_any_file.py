"""Every reader on damaged files: cut off, bytes of other values, pieces in the wrong place, numbers that lie.

Each raises an error of the package that names the file, or reads something valid: no other exception, no hang, no
memory because a header asks for it. The examples are the same in every run.
"""
from __future__ import annotations

import ast
import json
import resource
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from room import FakeNetwork, frames, walk
from safetensors import safe_open
from safetensors.numpy import save_file
from test_floors import MODULES

from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Cloud, MapObject
from lsm_ros.data.outputs import read_objects, read_ply, write_objects, write_ply
from lsm_ros.data.recording import RecordingWriter, read_messages
from lsm_ros.data.sequences import open_sequence
from lsm_ros.errors import LsmError
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.mapper import Mapper
from lsm_ros.mapping.saved_map import FILE, read_map, write_map
from lsm_ros.model.network import Network, NetworkConfig
from lsm_ros.model.weights import load_network, read_card, save_weights
from lsm_ros.world.drives import load_drive
from lsm_ros.world.materials import load_textures, pack_textures
from lsm_ros.world.meshes import MeshLibrary, Model, Part, load_meshes, save_meshes

LABELS = LabelSet.load()
POSES = walk(60)
K = np.array([[60.0, 0, 39.5], [0, 60, 29.5], [0, 0, 1]])
MOST_S, MOST_MB = 120, 700          # of one file, and of all of them together
ALONE = MapperConfig(refine_poses=False, min_agreement=0.3)


def examples(count: int):
    return settings(max_examples=count, deadline=None, derandomize=True, database=None,
                    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def picture(n: int) -> np.ndarray:
    v, u = np.mgrid[:60, :80]
    return np.stack([(u * 3 + n * 9) % 256, v * 4, (u + v) % 256], axis=-1).astype(np.uint8)


# One good file of each kind, and what reads it.

def sequence(path: Path):
    return [item.frame.image.shape for item in open_sequence(path)]


def write_images(folder: Path) -> None:
    folder.mkdir()
    for name in ("a.jpg", "b.png", "c.tif", "d.webp", "e.bmp"):
        cv2.imwrite(str(folder / name), picture(0))


def write_video(path: Path, codec: str) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10.0, (80, 60))
    for n in range(6):
        writer.write(picture(n))
    writer.release()


def write_truth(folder: Path) -> None:
    for name in ("color", "depth", "pose", "label"):
        (folder / name).mkdir(parents=True)
    cv2.imwrite(str(folder / "color/0.jpg"), picture(0))
    cv2.imwrite(str(folder / "depth/0.png"), np.full((60, 80), 1500, np.uint16))
    cv2.imwrite(str(folder / "label/0.png"), np.full((60, 80), 3, np.uint8))
    np.savetxt(folder / "pose/0.txt", np.eye(4))
    np.savetxt(folder / "intrinsics.txt", K)


def write_recording(folder: Path) -> None:
    with RecordingWriter(folder) as writer:
        for n in range(3):
            writer.write_camera_info(n * 10**8, K, 80, 60)
            writer.write_image(n * 10**8, picture(n))
            writer.write_truth_pose(n * 10**8, np.eye(4))
            writer.write_truth_depth(n * 10**8, np.full((60, 80), 1.5))


def write_textures(path: Path, folder: Path) -> None:
    for n, name in enumerate(("wood", "stone")):
        (folder / name).mkdir(parents=True)
        cv2.imwrite(str(folder / name / f"{n}.jpg"), picture(n))
    pack_textures(folder, path)


def write_meshes(path: Path) -> None:
    cube = np.array([[x, y, z] for x in (0, 65535) for y in (0, 65535) for z in (0, 65535)], np.uint16)
    faces = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]], np.uint16)
    library = MeshLibrary(cube, faces, np.zeros(6, np.uint8), np.array([8]), np.array([6]), np.ones((1, 3), np.float32))
    save_meshes(path, library, (Model(0, "stool", "chair", "chair", (1.0, 1.0, 1.0), 0.0, (),
                                      (Part((0.5, 0.5, 0.5), "wood"),), "nobody"),))


def write_drive(path: Path) -> None:
    jpegs = [cv2.imencode(".jpg", picture(n))[1].ravel() for n in range(2)]
    zeros = np.zeros((2, 30, 40), np.uint16)
    np.savez_compressed(path, jpegs=np.concatenate(jpegs), ends=np.cumsum([len(jpeg) for jpeg in jpegs]), K=K,
                        T_world_cam=np.tile(np.eye(4), (2, 1, 1)), K_truth=K, depth=zeros, labels=zeros,
                        instances=zeros)


def read_recorded(path: Path):
    return [topic for topic, *_ in read_messages(path, ["/truth/pose", "/camera/camera_info"])]


READERS = {
    **{f"images/{name}": (sequence, "images", 12) for name in ("a.jpg", "b.png", "c.tif", "d.webp", "e.bmp")},
    "clip.mp4": (sequence, "clip.mp4", 10), "clip.avi": (sequence, "clip.avi", 10),
    **{f"truth/{name}": (sequence, "truth", 12) for name in ("depth/0.png", "pose/0.txt", "label/0.png",
                                                             "intrinsics.txt")},
    "bag/bag.mcap": (sequence, "bag", 10), "bag/metadata.yaml": (sequence, "bag", 10),
    "alone.mcap": (read_recorded, "alone.mcap", 15),
    "small.safetensors": (load_network, "small.safetensors", 20),
    "card.safetensors": (read_card, "card.safetensors", 20),
    FILE: (lambda path: read_map(path, LABELS), FILE, 30),
    "words.yaml": (LabelSet.load, "words.yaml", 30),
    "textures.npz": (load_textures, "textures.npz", 20), "meshes.npz": (load_meshes, "meshes.npz", 20),
    "drive.npz": (load_drive, "drive.npz", 20),
    "cloud.ply": (read_ply, "cloud.ply", 20), "objects.json": (read_objects, "objects.json", 20)}


@pytest.fixture(scope="module")
def mapped():
    mapper = Mapper(FakeNetwork(POSES, LABELS), LABELS, ALONE)
    for frame in frames(POSES[:12]):
        mapper.push(frame)
    return mapper


@pytest.fixture(scope="module")
def good(mapped, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write_images(folder / "images")
    write_video(folder / "clip.mp4", "mp4v")
    write_video(folder / "clip.avi", "MJPG")
    write_truth(folder / "truth")
    write_recording(folder / "bag")
    (folder / "alone.mcap").write_bytes((folder / "bag/bag.mcap").read_bytes())
    network = Network(NetworkConfig(width=48, heads=2, encoder=1, decoder="a", stem=16, embedding=8))
    save_weights(folder / "small.safetensors", network, network.state_dict(), card={"steps": 3})
    (folder / "card.safetensors").write_bytes((folder / "small.safetensors").read_bytes())
    write_map(folder / FILE, mapped.state())
    (folder / "words.yaml").write_text("labels:\n- name: sofa\n  color: [1, 2, 3]\n  synonyms: [couch]\n  nyu40: sofa\n"
                                       "- floor\n- {name: wall, thing: false, lsm8: wall}\n")
    write_textures(folder / "textures.npz", folder / "textures")
    write_meshes(folder / "meshes.npz")
    write_drive(folder / "drive.npz")
    cloud = mapped.map_cloud()
    write_ply(folder / "cloud.ply", Cloud(*(part[:50] for part in vars(cloud).values())), LABELS)
    write_objects(folder / "objects.json", [MapObject(1, 2, "sofa", np.zeros(3), np.ones(3), 0.1, 0.9, 40)])
    for reader, start, _ in READERS.values():
        assert reader(folder / start)
    return folder


@pytest.fixture(scope="module", autouse=True)
def frugal():
    """No header got gigabytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MB * 1024


def reads_or_says_why(reader, path: Path) -> None:
    def late(*_):
        raise AssertionError(f"{path} takes longer than {MOST_S} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(MOST_S)
    try:
        reader(path)
    except LsmError as error:
        assert path.name in str(error), f"{error} does not name {path.name}"
        assert len(str(error)) < 5000
    finally:
        signal.alarm(0)


@st.composite
def damage(draw, data: bytes) -> bytes:
    """The file with one to four injuries, most of them near its ends, where the headers are."""
    spot = st.integers(0, min(len(data), 300) - 1) | st.integers(0, len(data) - 1) | st.integers(
        max(0, len(data) - 300), len(data) - 1)
    changed = bytearray(data)
    for kind in draw(st.lists(st.sampled_from(["flip", "lie", "splice", "cut"]), min_size=1, max_size=4)):
        at = min(draw(spot), max(len(changed) - 1, 0))
        if kind == "flip" and changed:
            changed[at] = draw(st.integers(0, 255))
        elif kind == "lie":
            changed[at:at + 8] = draw(st.sampled_from([b"\xff" * 8, b"\xff" * 4, b"\x00" * 8, b"\x7f" + b"\xff" * 7,
                                                       b"9" * 8]))
        elif kind == "splice":
            start = draw(spot)
            changed[at:at] = data[start:start + draw(st.integers(1, 200))]
        elif kind == "cut":
            del changed[at:]
    return bytes(changed)


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_named_or_read(good: Path, name):
    reader, start, count = READERS[name]
    path, data = good / name, (good / name).read_bytes()

    @examples(count)
    @given(damage(data))
    def read(damaged: bytes) -> None:
        path.write_bytes(damaged)
        reads_or_says_why(reader, good / start)

    try:
        read()
    finally:
        path.write_bytes(data)


@examples(50)
@given(data=st.data())
def test_a_saved_map_whose_numbers_lie_is_named_or_taken_up(good: Path, data):
    """Whole files, with arrays of other numbers, types and shapes; what is read can be mapped on in."""
    with safe_open(good / FILE, framework="numpy") as file:
        arrays, header = {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["map"])
    name = data.draw(st.sampled_from([*sorted(arrays), "header"]))
    if name == "header":
        key = data.draw(st.sampled_from(sorted(header)))
        header[key] = data.draw(st.none() | st.floats() | st.text(max_size=3) | st.integers() | st.lists(st.integers()))
    else:
        array = arrays[name]
        how = data.draw(st.sampled_from(["value", "value", "value", "type", "rows", "flat"]))
        if how == "value" and array.size:
            values = [0, 1, 127, *([np.nan, np.inf, -1, 1e30] if array.dtype.kind == "f" else
                                   [] if array.dtype.kind == "u" else [-1, -100])]
            with np.errstate(over="ignore"):
                array.ravel()[data.draw(st.integers(0, array.size - 1))] = data.draw(st.sampled_from(values))
        elif how == "type":
            with np.errstate(invalid="ignore"):
                arrays[name] = array.astype(data.draw(st.sampled_from(["f4", "f8", "i4", "u1", "i8"])))
        elif how == "rows":
            arrays[name] = array[:data.draw(st.integers(0, max(len(array) - 1, 0)))]
        else:
            arrays[name] = array.ravel()
    path = good / "lies.safetensors"
    save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, path,
              metadata={"map": json.dumps(header)})

    def take_up(path: Path) -> None:
        mapper = Mapper(FakeNetwork(POSES, LABELS), LABELS, ALONE)
        mapper.restore(read_map(path, LABELS))
        assert np.isfinite(mapper.map_cloud().points).all()
        assert np.isfinite([T for _, T in mapper.trajectory()]).all()
        mapper.settle()
    reads_or_says_why(take_up, path)


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("sofa")


@examples(100)
@given(content=st.fixed_dictionaries({"labels": st.lists(st.recursive(
    plain | st.dictionaries(st.sampled_from(["name", "color", "thing", "synonyms", "lsm8", "nyu40"]) | plain, plain),
    lambda inner: st.lists(inner, max_size=3), max_leaves=5), max_size=4)}) | plain)
def test_any_label_file(tmp_path, content):
    path = tmp_path / "any.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf8")
    reads_or_says_why(LabelSet.load, path)


def test_a_label_file_whose_text_would_fill_the_memory_is_refused(tmp_path):
    """YAML's aliases: a list of ten lists of ten lists ..., 10^12 words if it were written out."""
    lines = ["x0: &x0 [sofa, sofa]", *(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 13)),
             "labels: [*x12]"]
    (tmp_path / "laughs.yaml").write_text("\n".join(lines))
    reads_or_says_why(LabelSet.load, tmp_path / "laughs.yaml")
    (tmp_path / "deep.yaml").write_text("labels: " + "[" * 1500)
    reads_or_says_why(LabelSet.load, tmp_path / "deep.yaml")


def test_a_picture_that_claims_to_be_huge_gets_no_memory(tmp_path):
    data = bytearray(cv2.imencode(".png", picture(0))[1].tobytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    (tmp_path / "bomb.png").write_bytes(data)
    reads_or_says_why(sequence, tmp_path)


# Nothing is ever evaluated or unpickled.

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.full_load",
                   "yaml.unsafe_load", "yaml.load_all"}
NEEDED = {"np.load": ("allow_pickle", False), "torch.load": ("weights_only", True)}


def offences(source: str) -> list[str]:
    """What in a module could run what a file or a message says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"import {name}" for name in names if name.split(".")[0] in FORBIDDEN_MODULES]
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
        if name in FORBIDDEN_CALLS:
            found.append(f"{name}()")
        for key, allowed in (("allow_pickle", False), ("shell", False), ("weights_only", True)):
            if key in given and getattr(given[key], "value", None) is not allowed:
                found.append(f"{name}({key}={ast.unparse(given[key])})")
        if name in NEEDED and NEEDED[name][0] not in given:
            found.append(f"{name}() without {NEEDED[name][0]}")
    return found


@pytest.mark.parametrize("source", [
    "import pickle", "from pickle import loads", "eval(text)", "exec(text)", "yaml.load(file)", "np.load(file)",
    "np.load(file, allow_pickle=True)", "torch.load(file)", "torch.load(file, weights_only=False)",
    "subprocess.run(text, shell=True)", "os.system(text)"])
def test_the_search_finds_what_it_looks_for(source):
    assert offences(source)


def test_nothing_is_evaluated_or_unpickled():
    assert not {str(module): found for module in MODULES if (found := offences(module.read_text("utf8")))}

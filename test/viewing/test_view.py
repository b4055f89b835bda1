"""`lsm view` without a screen: the file that it writes, read back by rerun's own reader."""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from mapping.room import FakeNetwork, K, frames, walk

from lsm_ros import cli
from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Cloud, MapObject
from lsm_ros.data.messages import BOX, CLOUD_FIELDS, EDGES, LOOPS, NAME, POINT
from lsm_ros.data.outputs import read_objects, read_ply, write_objects, write_ply, write_trajectory
from lsm_ros.data.recording import IMAGE_TOPIC, RecordingWriter, camera_topics, recording_topics, ros_types
from lsm_ros.errors import InputError
from lsm_ros.geometry.sim3 import quaternion_from_matrix
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.mapper import Mapper
from lsm_ros.mapping.saved_map import FILE, write_map
from lsm_ros.viewing import recorded

LABELS = LabelSet.load()
POSES = walk(16)
FILM = frames(POSES)
STAMPS = [1_700_000_000_000_000_001 + 100_000_000 * n for n in range(3)]
CHAIR = MapObject(id=4, label=LABELS.index("chair"), name="chair", center=np.array([1.0, 2, 0.5]),
                  size=np.array([0.5, 0.5, 1.0]), yaw=0.25, confidence=0.75, points=80)

needs_rerun = pytest.mark.skipif(importlib.util.find_spec("rerun") is None,
                                 reason="rerun is not installed: pip install 'lsm_ros[view]'")


@pytest.fixture(scope="module")
def mapper():
    mapper = Mapper(FakeNetwork(POSES, LABELS), LABELS, MapperConfig(refine_poses=False, min_agreement=0.3))
    for frame in FILM:
        mapper.push(frame)
    mapper.settle()
    return mapper


@pytest.fixture
def saved(mapper, tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    write_ply(folder / "cloud.ply", mapper.map_cloud(), LABELS)
    write_trajectory(folder / "trajectory.txt", mapper.trajectory())
    write_objects(folder / "objects.json", [CHAIR])
    write_map(folder / FILE, mapper.state())
    return folder


def view(path: Path, *options: str) -> dict[str, dict[str, list]]:
    """entity -> component -> its values in the order of the stamps, of what `lsm view PATH --save` wrote."""
    from rerun.chunk import RrdReader

    file = path.parent / "seen.rrd"
    assert cli.main(["view", str(path), "--save", str(file), *options]) == 0
    rows: dict[str, list] = {}
    for chunk in RrdReader(str(file)).stream():
        batch = chunk.to_record_batch()
        stamps = [0] * len(batch)
        if not chunk.is_static:
            stamps = batch.column(batch.schema.get_field_index("stamp")).cast("int64").to_pylist()
        for index, name in enumerate(batch.schema.names):
            if ":" in name:
                values = zip(stamps, batch.column(index).to_pylist(), strict=True)
                rows.setdefault((chunk.entity_path, name), []).extend(row for row in values if row[1] is not None)
    entities: dict[str, dict[str, list]] = {}
    for (entity, name), values in rows.items():
        entities.setdefault(entity, {})[name] = sorted(values, key=lambda row: row[0])
    return entities


def test_a_cloud_and_objects_come_back_as_they_went(mapper, tmp_path):
    write_ply(tmp_path / "cloud.ply", mapper.map_cloud(), LABELS)
    cloud, names = read_ply(tmp_path / "cloud.ply")
    assert names == LABELS.names
    for name, array in vars(mapper.map_cloud()).items():
        np.testing.assert_array_equal(getattr(cloud, name), array)
    write_objects(tmp_path / "objects.json", [CHAIR])
    (chair,) = read_objects(tmp_path / "objects.json")
    assert chair.name == "chair" and chair.id == 4 and chair.size.tolist() == [0.5, 0.5, 1.0]


@pytest.mark.parametrize("change, told", [
    (lambda data: data.replace(b"float x", b"double x"), "no cloud of lsm_ros"),
    (lambda data: data[:-5], "cannot be read: buffer is smaller"),
    (lambda data: data.replace(b"comment label 39", b"comment thing 39"), "has the label 39, but names only 39"),
    (lambda data: b"", "no cloud of lsm_ros"),
])
def test_a_cloud_of_others_or_a_damaged_one_is_refused(change, told, tmp_path):
    last = Cloud(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.uint8), np.array([0, 39], np.uint16),
                 np.zeros(2, np.uint8))
    write_ply(tmp_path / "cloud.ply", last, LABELS)
    (tmp_path / "cloud.ply").write_bytes(change((tmp_path / "cloud.ply").read_bytes()))
    with pytest.raises(InputError, match=told):
        read_ply(tmp_path / "cloud.ply")


@needs_rerun
def test_a_saved_map_is_all_there(mapper, saved):
    seen, cloud, state = view(saved), mapper.map_cloud(), mapper.state()
    for look in ("colour", "class"):
        parts = [seen[f"/map/cloud/{look}{part}"]["Points3D:positions"][0][1] for part in ("", "/ceiling")]
        assert sum(map(len, parts)) == len(cloud) and min(map(len, parts)) > 0
    classes = seen["/map/cloud/class"]["Points3D:class_ids"][0][1]
    assert LABELS.index("floor") in classes and LABELS.index("ceiling") not in classes
    context = seen["/map"]["AnnotationContext:context"][0][1][0]
    assert len(context) == len(LABELS)
    assert seen["/map/objects"]["Boxes3D:labels"][0][1] == ["chair"]
    assert len(seen["/map/path"]["LineStrips3D:strips"][0][1][0]) == len(mapper.trajectory())
    edges, loops = (seen[f"/map/graph/{kind}"]["LineStrips3D:strips"][0][1] for kind in ("edges", "loops"))
    assert len(edges) + len(loops) == len(state.graph.edges) > 10 and len(loops) == state.graph.loops()
    images, cameras = seen["/map/camera/image"]["EncodedImage:blob"], seen["/map/camera"]["Transform3D:translation"]
    stamps = [view.keyframe.frame.stamp_ns for view in state.views.values()]
    assert [stamp for stamp, _ in images] == [stamp for stamp, _ in cameras] == sorted(stamps)
    for keyframe_id in state.graph.ids:
        pinhole = seen[f"/map/keyframes/{keyframe_id}"]["Pinhole:image_from_camera"][0][1][0]
        np.testing.assert_allclose(np.reshape(pinhole, (3, 3)).T, K, rtol=0.02)       # rerun has columns first


@needs_rerun
def test_a_folder_without_the_map_file_has_cloud_path_and_objects(saved):
    (saved / FILE).unlink()
    seen = view(saved)
    assert {"/map/cloud/colour", "/map/path", "/map/objects", "/map/camera"} < set(seen)
    assert not any("keyframes" in entity or "graph" in entity for entity in seen)


@pytest.fixture
def recording(tmp_path, request):
    """Three windows of a node: a map that grows, an object that goes again, other words at the end.

    The parameter is the node's namespace and the image topic.
    """
    root, image_topic = getattr(request, "param", ("/robot/lsm", IMAGE_TOPIC))
    kinds = ros_types().types
    at = [kinds["std_msgs/msg/Header"](kinds["builtin_interfaces/msg/Time"](*divmod(stamp, 10**9)), "lsm_map")
          for stamp in STAMPS]
    vector, colour = kinds["geometry_msgs/msg/Vector3"], kinds["std_msgs/msg/ColorRGBA"]

    def pose(T):
        turn = kinds["geometry_msgs/msg/Quaternion"](*map(float, quaternion_from_matrix(T[:3, :3])))
        return kinds["geometry_msgs/msg/Pose"](kinds["geometry_msgs/msg/Point"](*map(float, T[:3, 3])), turn)

    def cloud(n, count):
        points = np.zeros(count, POINT)
        points["xyz"] = np.random.default_rng(n).uniform(0, 1, (count, 3))
        points["label"] = np.arange(count) % 2
        fields = [kinds["sensor_msgs/msg/PointField"](name, 0, 7, 1) for name in CLOUD_FIELDS]
        return kinds["sensor_msgs/msg/PointCloud2"](at[n], 1, count, fields, False, POINT.itemsize,
                                                    POINT.itemsize * count, points.view(np.uint8), True)

    def marker(n, ns, number, kind, action=0, points=(), text=""):
        return kinds["visualization_msgs/msg/Marker"](
            at[n], ns, number, kind, action, pose(POSES[n]), vector(1.0, 2.0, 3.0), colour(1.0, 0.0, 0.5, 1.0),
            kinds["builtin_interfaces/msg/Duration"](0, 0), False,
            [kinds["geometry_msgs/msg/Point"](*map(float, point)) for point in points], [], "",
            kinds["sensor_msgs/msg/CompressedImage"](at[n], "", np.zeros(0, np.uint8)), [], text, "",
            kinds["visualization_msgs/msg/MeshFile"]("", np.zeros(0, np.uint8)), False)

    odometry, path = kinds["nav_msgs/msg/Odometry"], kinds["nav_msgs/msg/Path"]
    stamped, pose_of, twist_of = (kinds[f"geometry_msgs/msg/{name}"] for name in
                                  ("PoseStamped", "PoseWithCovariance", "TwistWithCovariance"))
    still = twist_of(kinds["geometry_msgs/msg/Twist"](vector(0.0, 0.0, 0.0), vector(0.0, 0.0, 0.0)), np.zeros(36))
    markers = kinds["visualization_msgs/msg/MarkerArray"]
    messages = []
    for n in range(3):
        line = [POSES[n][:3, 3], POSES[n + 1][:3, 3]]
        boxes = [[marker(n, BOX, 4, 1), marker(n, NAME, 4, 9, text="chair 1.0 m")],
                 # another node, which deletes all that the one before left
                 [marker(n, "", 0, 0, action=3), marker(n, BOX, 5, 1), marker(n, NAME, 5, 9, text="chair 2.0 m")],
                 [marker(n, BOX, 5, 0, action=2), marker(n, NAME, 5, 0, action=2)]][n]
        messages += [
            ("map_cloud", n, cloud(n, 50 * (n + 1))), ("semantic_cloud", n, cloud(n, 20)),
            ("odometry", n, odometry(at[n], "lsm_camera", pose_of(pose(POSES[n]), np.zeros(36)), still)),
            ("path", n, path(at[n], [stamped(at[i], pose(POSES[i])) for i in range(n + 1)])),
            ("label_markers", n, markers(boxes)),
            ("pose_graph", n, markers([marker(n, EDGES, 0, 5, points=line * (n + 1)),
                                       marker(n, LOOPS, 0, 5, points=line if n == 2 else ())]))]
    messages.append(("label_markers", 2, markers([])))          # as long as there is no object; by the node's clock
    folder = tmp_path / "told"
    with RecordingWriter(folder) as writer:
        writer.register_type("lsm_ros/msg/LabelLegend", (Path(__file__).parents[2] / "msg/LabelLegend.msg").read_text())
        def legend(*words):
            return writer._types.types["lsm_ros/msg/LabelLegend"](
                at[0], np.arange(len(words), dtype=np.uint16), list(words), [colour(0.0, 1.0, 0.0, 1.0)] * len(words))

        writer._write_message(f"{root}/label_legend", "lsm_ros/msg/LabelLegend", 0, legend("wood", "ceiling"))
        for n, stamp in enumerate(STAMPS):
            writer.write_camera_info(stamp, K, *FILM[n].image.shape[1::-1])
            writer.write_image(stamp, FILM[n].image, topic=image_topic)
            writer.write_image(stamp, FILM[n].image, topic=f"{root}/segmentation/mask")
        for name, n, message in messages:
            if name == "map_cloud" and n == 2:
                writer._write_message(f"{root}/label_legend", "lsm_ros/msg/LabelLegend", STAMPS[n],
                                      legend("oak", "ceiling", "door"))
            writer._write_message(f"{root}/{name}", message.__msgtype__, STAMPS[n] + 500, message)
    return folder


@needs_rerun
def test_a_recording_is_drawn_over_time(recording):
    seen = view(recording)
    parts = {part: seen[f"/map/cloud/colour{part}"]["Points3D:positions"] for part in ("", "/ceiling")}
    assert [(stamp, len(points)) for stamp, points in parts[""]] == list(zip(STAMPS, (25, 50, 75), strict=True))
    assert [len(points) for _, points in parts["/ceiling"]] == [25, 50, 75]
    assert [names for _, names in seen["/map/objects"]["Boxes3D:labels"]] == [["chair 1.0 m"], ["chair 2.0 m"], []]
    assert [len(strips[0]) for _, strips in seen["/map/path"]["LineStrips3D:strips"]] == [1, 2, 3]
    assert [len(strips) for _, strips in seen["/map/graph/edges"]["LineStrips3D:strips"]] == [1, 2, 3]
    assert [len(strips) for _, strips in seen["/map/graph/loops"]["LineStrips3D:strips"]] == [0, 0, 1]
    cameras = seen["/map/camera"]["Transform3D:translation"]
    np.testing.assert_allclose([place for _, (place,) in cameras], [pose[:3, 3] for pose in POSES[:3]], atol=1e-5)
    assert [stamp for stamp, _ in seen["/map/camera/image"]["EncodedImage:blob"]] == STAMPS
    own = np.random.default_rng(0).uniform(0, 1, (20, 3)) @ POSES[0][:3, :3].T + POSES[0][:3, 3]
    np.testing.assert_allclose(seen["/map/view"]["Points3D:positions"][0][1], own, atol=1e-5)
    words = [(stamp, [entry["class_description"]["info"]["label"] for entry in context])
             for stamp, (context,) in seen["/map"]["AnnotationContext:context"]]
    assert words == [(STAMPS[0], ["wood", "ceiling"]), (STAMPS[2], ["oak", "ceiling", "door"])]


@pytest.mark.parametrize("recording", [("/lsm", "/lsm/image/compressed"), ("", "/image/compressed")], indirect=True)
@pytest.mark.parametrize("asked", [False, True])
def test_the_camera_s_topic_may_lie_beside_the_node_s(recording, asked, monkeypatch):
    drawing = Mock()
    monkeypatch.setattr(recorded, "Drawing", lambda *_: drawing)
    (topic,) = camera_topics(recording_topics(recording))
    recorded.draw_recording(recording, LABELS, image_topic=topic if asked else None)
    assert drawing.image.call_count == len(STAMPS)
    assert [call.args[0].names for call in drawing.objects.call_args_list] == [["chair 1.0 m"], ["chair 2.0 m"], []]
    assert {call.args[0] for call in drawing.at.call_args_list} == set(STAMPS), "the timeline is that of the images"


@pytest.mark.parametrize(("asked", "root"), [("/a/lsm", "/a/lsm"), ("a/lsm/", "/a/lsm"), ("/", "")])
def test_a_namespace_without_its_first_slash_is_the_same(asked, root):
    topics = dict.fromkeys(["/a/lsm/map_cloud", "/map_cloud"], "sensor_msgs/msg/PointCloud2")
    assert recorded.find_namespace(topics, asked, Path("bag")) == root


def test_what_cannot_be_seen_is_told(recording, saved, tmp_path, capsys, monkeypatch):
    def refusal(*argv) -> str:
        assert cli.main(["view", *map(str, argv)]) == 2
        return capsys.readouterr().err

    assert "nowhere does not exist" in refusal(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "neither a saved map" in refusal(tmp_path / "empty")
    assert "no topic /lsm/map_cloud" in refusal(recording, "--namespace", "/lsm", "--save", tmp_path / "a.rrd")
    with RecordingWriter(tmp_path / "camera") as writer:
        writer.write_image(1, FILM[0].image)
    assert "holds no topic map_cloud" in refusal(tmp_path / "camera", "--save", tmp_path / "a.rrd")
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert "pip install 'rerun-sdk" in refusal(saved, "--save", tmp_path / "a.rrd")


@needs_rerun
def test_no_screen_and_no_folder_are_told(saved, tmp_path, capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert cli.main(["view", str(saved)]) == 2 and "--save map.rrd" in capsys.readouterr().err
    assert cli.main(["view", str(saved), "--save", str(tmp_path / "no/a.rrd")]) == 2
    assert "no/a.rrd can't be written: No such file" in capsys.readouterr().err

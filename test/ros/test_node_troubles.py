"""Nodes that can't start, have nothing to hear, or a network in trouble."""
from __future__ import annotations

import signal
import threading
import time

import cv2
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from fake_node import FakePredictor
from harness import FRAME_ID, PATIENCE_S, Camera
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool, Trigger
from test_node import goes_on

from lsm_ros.config import PredictorConfig
from lsm_ros.ros.conversions import compressed_message, image_to_array
from lsm_ros.ros.node import LsmNode
from lsm_ros.ros.process import spin

MAPPING = "lsm/lsm: mapping"
# Of an image that was received.
FATES = ("mapper.frames", "images_replaced_by_newer", "images_before_camera_info", "images_while_paused",
         "images_discarded")


def test_an_unknown_parameter_stops_the_node_and_is_named(start):
    node = start("mapper.voxel_size:=0.1")
    assert node.process.wait(PATIENCE_S) == 2
    assert "unknown parameter 'mapper.voxel_size' (did you mean 'mapper.voxel_size_m'?)" in node.output()


@pytest.mark.parametrize("damage", [None, b"these are no weights"])
def test_without_weights_the_node_stays_unconfigured_and_says_why(start, camera: Camera, tmp_path, damage):
    weights = tmp_path / "lost.safetensors"
    if damage:
        weights.write_bytes(damage)
    node = start(f"predictor.weights:={weights}", fake=False)
    camera.spin_until(lambda: camera.levels.get(MAPPING, (b"", ""))[0] == DiagnosticStatus.ERROR)
    assert str(weights) in camera.levels[MAPPING][1]
    assert camera.call(GetState, "/lsm/lsm/get_state", GetState.Request()).current_state.label == "unconfigured"
    assert node.stop() == 0
    assert str(weights) in node.output()


def test_an_unknown_label_keeps_the_node_unconfigured_and_is_named(start, camera: Camera):
    start("keepout_labels:=rug, tabel")
    camera.spin_until(lambda: camera.levels.get(MAPPING, (b"", ""))[0] == DiagnosticStatus.ERROR)
    assert camera.levels[MAPPING][1] == "keepout_labels: no label 'tabel'; did you mean 'table'? (in 'rug, tabel')"
    assert camera.call(GetState, "/lsm/lsm/get_state", GetState.Request()).current_state.label == "unconfigured"


def test_an_activation_that_fails_leaves_nobody_listening(camera: Camera):
    """The name is too long for DDS, which says so only when it is subscribed to. The namespace is its own, since rclpy
    keeps a node of this process known after its end."""
    node = LsmNode(FakePredictor, parameter_overrides=[Parameter("image_topic", value="a" * 250)],
                   cli_args=["--ros-args", "-r", "__ns:=/failing"])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    for _ in range(2):
        assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
        assert [subscription.topic_name for subscription in node.subscriptions] == []
    node.destroy_node()


@pytest.fixture
def active():
    """A node of this process that is active."""
    node = LsmNode(FakePredictor, cli_args=["--ros-args", "-r", "__ns:=/active"])
    node.start()
    yield node
    node.destroy_node()


def test_pause_and_enable_tell_of_each_other(camera: Camera, active: LsmNode):
    def answer(switch, on: bool) -> str:
        return switch(SetBool.Request(data=on), SetBool.Response()).message

    pause, enable = active._on_pause, active._on_enable
    assert [answer(pause, True), answer(enable, True), answer(pause, False)] == ["paused", "paused", "running"]
    assert [answer(enable, False), answer(pause, False)] == ["disabled", "disabled"]
    assert [answer(pause, True), answer(enable, True)] == ["disabled and paused", "paused"]
    active.trigger_deactivate()
    assert answer(pause, False) == answer(enable, True) == "the node is inactive"


def test_a_camera_is_not_silent_for_as_long_as_nobody_listened(camera: Camera, active: LsmNode):
    """Enabled again after an hour the node said "no image for 3600.0 s" until the first one came."""
    active._health.arrived()
    assert active._health.snapshot()["image_age_s"] is not None
    for data in (False, True):
        active._on_enable(SetBool.Request(data=data), SetBool.Response())
    assert active._health.snapshot()["image_age_s"] is None and active._health.snapshot()["counts"]["images_received"]


def test_a_shorter_map_period_counts_from_now(camera: Camera, active: LsmNode):
    active.set_parameters([Parameter("map_period_s", value=3600.0)])
    active.set_parameters([Parameter("map_period_s", value=0.5)])
    assert active._map_timer.time_until_next_call() <= 0.5e9


def test_the_network_is_loaded_by_the_thread_that_runs_it():
    """Two threads that use it have two teams of OpenMP's threads, more than there are cores, and each of them sleeps
    whenever it waits."""
    threads = []

    def noting(config: PredictorConfig) -> FakePredictor:
        threads.append(threading.current_thread())
        return FakePredictor(config)

    node = LsmNode(noting, cli_args=["--ros-args", "-r", "__ns:=/loading"])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert threads == [node._worker.run(threading.current_thread).result()]
    node.destroy_node()


def test_without_labels_to_keep_out_of_there_is_no_mask(start, camera: Camera):
    start()
    camera.connect()

    def names() -> set[str]:
        return {name for name, _ in camera.get_publisher_names_and_types_by_node("lsm", "/lsm")}

    # Discovery tells of a node's publishers one by one; query_cloud is made after the mask.
    camera.spin_until(lambda: {"/lsm/occupancy", "/lsm/query_cloud"} <= names(), what="for the node's topics")
    assert "/lsm/keepout_mask" not in names()


def test_the_newest_image_wins_and_a_second_interrupt_ends_at_once(start, camera: Camera):
    node = start("predictor.weights:=slow 2.0")
    camera.connect()
    sent = len(camera.walk(20, pause_s=0.03))
    camera.spin_until(lambda: camera.counter("images_received") == sent, what="for every image")
    camera.spin_until(lambda: sum(map(camera.counter, FATES)) == sent, what="for every image to be accounted for")
    assert camera.counter("images_replaced_by_newer") > sent / 2
    camera.walk(4)
    # An orderly end would have the status 0. On a busy machine several signals may count as one, so they go on.
    end = time.monotonic() + PATIENCE_S
    while node.process.poll() is None and time.monotonic() < end:
        node.interrupt()
        time.sleep(0.1)
    # Ours while the window goes on, or the default one once Python takes itself apart.
    assert node.process.returncode in (128 + signal.SIGINT, -signal.SIGINT)


def test_an_image_that_a_service_or_a_transition_drops_is_counted(start, camera: Camera):
    start("predictor.weights:=slow 2.0")
    camera.connect()

    def one_waits() -> None:
        """An image waits while the window in progress goes on."""
        replaced = camera.counter("images_replaced_by_newer")
        while camera.counter("images_replaced_by_newer") < replaced + 2:
            camera.walk(2)

    def pause(yes: bool) -> SetBool.Response:
        return camera.call(SetBool, "/lsm/pause", SetBool.Request(data=yes))

    one_waits()
    assert pause(True).message == "paused"
    camera.walk(2)
    assert pause(False).message == "running"
    one_waits()
    camera.call(ChangeState, "/lsm/lsm/change_state", ChangeState.Request(
        transition=Transition(id=Transition.TRANSITION_DEACTIVATE)))
    camera.spin_until(lambda: sum(map(camera.counter, FATES)) == camera.counter("images_received"),
                      what="for every image to be accounted for")
    assert camera.counter("images_discarded") >= 1
    for yes in (True, False):
        assert (pause(yes).success, pause(yes).message) == (False, "the node is inactive")


def test_a_failing_network_is_counted_and_the_node_goes_on(start, camera: Camera):
    node = start("predictor.weights:=raise inf")
    camera.connect()
    for failures in (1, 2):
        while camera.counter("worker_exceptions") < failures:
            camera.walk(1)
        assert camera.levels[MAPPING] == (DiagnosticStatus.WARN, "RuntimeError('the network is on fire')")
    assert "Traceback" in node.output()
    assert node.stop() == 0


@pytest.mark.slow
def test_silence_names_the_topic_its_publishers_and_their_qos(start, camera: Camera):
    """A best-effort publisher can't serve a reliable subscription: nothing comes, which is the commonest complaint."""
    lossy = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = camera.create_publisher(Image, "/lossy/image", lossy)
    node = start("image_reliability:=reliable", remap=("image:=/lossy/image",))
    camera.spin_until(lambda: camera.counter("silences") and camera.counter("qos_incompatible"))
    level, text = camera.levels["lsm/lsm: camera"]
    assert (level, text) == (DiagnosticStatus.ERROR, "no image yet on /lossy/image")
    assert "no image on /lossy/image for 5 s; published by /test_camera as sensor_msgs/msg/Image " \
           "(best_effort, volatile); wanted: sensor_msgs/msg/Image" in node.output()
    camera.destroy_publisher(publisher)
    assert node.stop() == 0


@pytest.mark.slow
def test_silence_names_cameras_that_there_are_and_not_the_nodes_own_images(start, camera: Camera):
    node = start(remap=("image:=/none/image",))
    camera.spin_until(lambda: camera.counter("silences"))
    assert "no image on /none/image for 5 s; nobody publishes it; published images: /camera/image_raw (Image)\n" \
        in node.output()
    assert node.stop() == 0


def test_compressed_images_and_a_truncated_one(start, camera: Camera):
    publisher = camera.create_publisher(CompressedImage, "/camera/image_raw/compressed", 10)
    node = start("image_transport:=compressed")
    camera.connect()

    def send(cut: int | None = None) -> None:
        camera.number += 1
        jpeg = cv2.imencode(".jpg", image_to_array(camera.image())[..., ::-1])[1].tobytes()
        camera.info_publisher.publish(camera.info())
        publisher.publish(compressed_message(jpeg[:cut], "jpeg", camera.header()))
        camera.spin(0.1)

    for _ in range(8):
        send()
    camera.spin_until(lambda: camera.counter("mapper.windows") >= 2)
    send(cut=-100)
    camera.spin_until(lambda: camera.counter("images_refused") == 1)
    assert "truncated" in camera.levels[MAPPING][1]
    assert camera.diagnostics["lsm/lsm: camera"]["frame_id"] == FRAME_ID
    windows = camera.counter("mapper.windows")
    for _ in range(8):
        send()
    camera.spin_until(lambda: camera.counter("mapper.windows") > windows)
    assert node.stop() == 0


def test_a_device_without_memory_gets_smaller_windows(start, camera: Camera):
    node = start("predictor.weights:=memory 2")
    camera.connect()
    while camera.counter("out_of_memory") < 2:
        camera.walk(1)
    goes_on(camera)
    assert camera.diagnostics[MAPPING]["window_views"] == "2 instead of 4: out of memory"
    assert "windows have 3 views instead of 4 from now on: CUDA out of memory. Tried to allocate 2.00 GiB." \
        in node.output()
    assert camera.counter("out_of_memory") == 2, "each costs one image"
    assert node.stop() == 0


def test_a_network_that_raises_now_and_then(start, camera: Camera):
    start("predictor.weights:=raise 2")
    camera.connect()
    goes_on(camera)
    camera.spin_until(lambda: camera.counter("mapper.windows"))
    assert camera.counter("worker_exceptions") == 2


def clients_of_a_busy_node(camera: Camera) -> tuple[Client, Client]:
    """Of its services reset and change_state, while a slow window is in progress."""
    camera.connect()
    while not camera.counter("images_replaced_by_newer"):
        camera.walk(1)
    return camera.client(Trigger, "/lsm/reset"), camera.client(ChangeState, "/lsm/lsm/change_state")


def test_a_window_that_takes_long_does_not_delay_the_end(start, camera: Camera):
    """It takes half a minute, a peer floods a service meanwhile, and the executor's thread waits for it too."""
    node = start("predictor.weights:=slow 30.0")
    reset, change = clients_of_a_busy_node(camera)
    for _ in range(200):
        reset.call_async(Trigger.Request())
    change.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE)))
    camera.spin(0.5)
    begun_s = time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - begun_s < 6, "two seconds, on a machine that has nothing else to do"
    for client in (reset, change):
        camera.destroy_client(client)


def test_who_waits_for_an_answer_gets_one_before_the_services_go(start, camera: Camera):
    """Also those whose requests nobody has read yet, for one of a group of services is answered at a time."""
    node = start("predictor.weights:=slow 2.0")
    reset, change = clients_of_a_busy_node(camera)
    answers = [reset.call_async(Trigger.Request()) for _ in range(3)]
    camera.walk(3)                      # the window in progress goes on
    change.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVE_SHUTDOWN)))
    camera.spin_until(lambda: all(answer.done() for answer in answers), what="for the answers")
    assert {answer.result().message for answer in answers} <= {
        "the node is stopping", "the node is finalized", "the map is empty"}
    camera.spin_until(lambda: not reset.service_is_ready(), what="for the service to go")
    assert node.stop() == 0
    assert "InvalidHandle" not in node.output()
    for client in (reset, change):
        camera.destroy_client(client)


def test_a_callback_that_raises_costs_itself_alone(camera: Camera):
    node, executor, raised = Node("raiser"), SingleThreadedExecutor(), []
    executor.add_node(node)
    node.create_timer(0.01, lambda: 1 / 0)

    class Stop:
        def is_set(self) -> bool:
            return len(raised) == 3

    spin(executor, Stop(), raised.append)
    assert [type(error) for error in raised] == [ZeroDivisionError] * 3
    with pytest.raises(ZeroDivisionError):
        while True:
            spin(executor, type("Never", (), {"is_set": lambda self: False})())
    executor.shutdown()
    node.destroy_node()

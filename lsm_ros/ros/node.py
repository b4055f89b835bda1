"""The node `lsm`: a camera's images in, a labelled cloud, the camera's pose and a map out.

A lifecycle node that configures and activates itself unless `autostart` is false. Two threads: the executor's takes
images and answers services, the worker's decodes, maps and publishes.
"""
from __future__ import annotations

import lsm_ros.threads  # noqa: F401  (before numpy and torch)

# isort: split
import os
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.task import Future as RosFuture
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from lsm_ros.config import PredictorConfig
from lsm_ros.errors import LsmError
from lsm_ros.memory import tune_allocator
from lsm_ros.model.engine import NetworkPredictor
from lsm_ros.ros.diagnostics import Health, diagnostic_array
from lsm_ros.ros.inputs import Inputs
from lsm_ros.ros.intake import Intake, Work
from lsm_ros.ros.parameters import checked_update, declare
from lsm_ros.ros.pipeline import Pipeline
from lsm_ros.ros.process import spin, spinning
from lsm_ros.ros.publishers import Publishers
from lsm_ros.ros.queries import QueryPublisher, fill
from lsm_ros.ros.transforms import MapOdomPublisher
from lsm_ros.ros.worker import Worker
from lsm_ros.srv import LoadMap, Query, SaveMap, SetClasses

STOP_S = 1.5                    # the window in progress may end within this time; a stop takes less than 2 s
END_S = 1.9                     # whatever it does, for that long after the signal
DIAGNOSTICS_PERIOD_S = 1.0
FAREWELL_S = 1.0                # services outlast their work: DDS drops an answer that it has not sent when they go

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class LsmNode(LifecycleNode):
    """Raises ConfigError at construction for an unknown or impossible parameter."""

    def __init__(self, make_predictor: Callable[[PredictorConfig], NetworkPredictor] = NetworkPredictor,
                 **node_options):
        super().__init__("lsm", namespace="lsm", automatically_declare_parameters_from_overrides=True, **node_options)
        self._make_predictor = make_predictor
        self._stage, self._fault = "unconfigured", None
        self._paused, self._enabled = False, True
        self._intake: Intake | None = None
        self._pipeline: Pipeline | None = None
        self._worker: Worker[Work] | None = None
        self._inputs: Inputs | None = None
        self._output: Publishers | None = None
        self._map_odom: MapOdomPublisher | None = None
        self._answers: QueryPublisher | None = None
        self._offered_services: list = []
        self._farewell = None                   # the timer that takes the services away
        self._map_timer = None
        self._map_job: Future | None = None
        self._health = Health(self.get_logger())
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)      # a simulation's may stand still, or jump
        self._options = declare(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=self._steady)

    def start(self) -> None:
        """Configures and activates, if `autostart` says so. After a failure the node stays, and shows the reason."""
        if self._options.node.autostart and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    # Lifecycle. rclpy swallows what a callback raises, so each of them catches, logs and returns FAILURE.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("inactive", self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("active", self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("inactive", self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("unconfigured", self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("finalized", self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("unconfigured", self._release)

    def _transition(self, target: str, action: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            action()
        except LsmError as error:
            self._fault = str(error)
            self.get_logger().error(f"not {target}: {error}")
            return FAILURE
        except Exception as error:                  # noqa: BLE001 whatever it is, rclpy would hide it
            self._fault = f"{type(error).__name__}: {error}"
            self.get_logger().error(f"not {target}: {traceback.format_exc()}")
            return FAILURE
        self._stage, self._fault = target, None
        return SUCCESS

    def _configure(self) -> None:
        self._health = Health(self.get_logger())    # the mapper's counters begin anew as well
        try:
            self._worker = Worker(lambda work: self._pipeline.handle(work), "lsm mapper")
            # Seconds: the weights are read here, on the thread that will use them. OpenMP keeps a team of threads for
            # each thread that has called it, and with more of them than cores they all sleep whenever they wait.
            predictor = self._worker.run(partial(self._make_predictor, self._options.predictor)).result()
            self._output = Publishers(self, predictor.labels, self._options.node)
            self._map_odom = MapOdomPublisher(self, self._options.node, self._health)
            self._answers = QueryPublisher(self)
            self._inputs = Inputs(self, self._options.node, self._health, self._on_transform)
            self._pipeline = Pipeline(predictor, self._inputs, self._output, self._map_odom, self._answers,
                                      self._health, self.get_clock(), self._options)
            self._offer_services()
        except Exception:
            self._release()
            raise

    def _activate(self) -> None:
        self._paused, self._enabled = False, True
        self._listen()
        self._map_odom.start(self._options.node)
        self._output.begin_anew()
        self._map_timer = self.create_timer(self._options.node.map_period_s, self._on_map_timer, clock=self._steady)

    def _deactivate(self) -> None:
        self._stop_working()
        self._worker.run(lambda: None).result()         # the window in progress still publishes; inactive means silent

    def _listen(self) -> None:
        self._health.listens_anew()
        self._map_odom.listen_anew()
        self._inputs.listen()
        try:
            self._intake = Intake(self, self._options.node, self._health, self._on_image)
        except Exception:
            self._inputs.stop()
            raise

    def _stop_listening(self) -> None:
        if self._intake:
            self._intake.destroy()
            self._inputs.stop()
            self._map_odom.stop_listening()
            self._intake = None
        self._discard()

    def _stop_working(self) -> None:
        self._stop_listening()
        if self._map_timer:
            self._map_odom.stop()
            self.destroy_timer(self._map_timer)
            self._map_timer = None

    def _release(self) -> None:
        self._stop_working()
        if self._worker:
            self._worker.stop()
            self._worker = None
        if self._offered_services and not self._farewell:
            self._farewell = self.create_timer(FAREWELL_S, self._withdraw_services, clock=self._steady)
        for publishers in filter(None, (self._output, self._map_odom, self._answers)):
            publishers.destroy()
        self._output, self._map_odom, self._answers = None, None, None
        self._inputs, self._pipeline, self._map_job = None, None, None

    def _offer_services(self) -> None:
        if self._farewell:                              # those of the last configuration are still there
            self.destroy_timer(self._farewell)
            self._farewell = None
            return
        awaited = MutuallyExclusiveCallbackGroup()
        self._offered_services = [
            self.create_service(Trigger, "reset", self._on_reset, callback_group=awaited),
            self.create_service(SaveMap, "save_map", self._on_save_map, callback_group=awaited),
            self.create_service(LoadMap, "load_map", self._on_load_map, callback_group=awaited),
            self.create_service(SetClasses, "set_classes", self._on_set_classes, callback_group=awaited),
            self.create_service(Query, "query", self._on_query, callback_group=awaited),
            self.create_service(SetBool, "pause", self._on_pause),
            self.create_service(SetBool, "enable", self._on_enable)]

    def _withdraw_services(self) -> None:
        self.destroy_timer(self._farewell)
        self._farewell = None
        for service in self._offered_services:
            self.destroy_service(service)
        self._offered_services = []

    def destroy_node(self) -> None:
        """The end of the process. torch can't be interrupted, so a window that takes too long is left behind."""
        if self._worker and not self._worker.stop(STOP_S):
            self.get_logger().warning(f"the window in progress takes longer than {STOP_S} s; ending without it")
            os._exit(0)
        self._release()
        super().destroy_node()

    def survive(self, error: Exception) -> None:
        """A callback has raised: that is counted and told, and the node goes on."""
        self._health.problem("callback_exceptions", repr(error), traceback.format_exc())

    # Images and timers, on the executor's thread.

    def _on_image(self, work: Work) -> None:
        if self._paused:
            self._health.count("images_while_paused")
        elif self._worker.offer(work):
            self._health.count("images_replaced_by_newer")

    def _on_transform(self, edge: TransformStamped, static: bool) -> None:
        self._map_odom.heard(edge, static)
        if self._output.is_foreign(edge):
            self._health.problem("frames_shared", f"somebody else publishes {edge.header.frame_id} -> "
                                 f"{edge.child_frame_id}, too; each node needs a map_frame and a camera_frame of its "
                                 "own")

    def _discard(self) -> None:
        if self._worker and self._worker.discard():
            self._health.count("images_discarded")

    def _on_map_timer(self) -> None:
        wanted = self._output.map_is_wanted()           # asked while a map waits, too: it watches who reads
        if wanted and (self._map_job is None or self._map_job.done()):
            self._map_job = self._worker.run(self._pipeline.publish_map)

    def _publish_diagnostics(self) -> None:
        if not self._diagnostics.get_subscription_count():
            return
        state, camera, counters, matches, world, views = self._stage, {}, None, None, None, None
        if self._pipeline:
            views = self._pipeline.views
            counters, matches, world = self._pipeline.mapper.counters, self._pipeline.matches, self._pipeline.world
        if self._intake:
            camera = {"topic": self._intake.topic, "camera_info_topic": self._intake.info_topic,
                      **self._pipeline.camera, "map_odom": self._map_odom.state}
            state = "paused" if self._paused else self._pipeline.state
        elif self._map_timer:
            state = "disabled"
        self._diagnostics.publish(diagnostic_array(
            Header(stamp=self.get_clock().now().to_msg()), self.get_fully_qualified_name().lstrip("/"), self._health,
            counters, state, camera, self._fault, matches, world, views))

    # Services. The mapper belongs to the worker's thread, so its answers are awaited, in a callback group of their own:
    # while a callback of the default group is in progress, rclpy takes no image.

    async def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._discard()
        return await self._answer(lambda: self._pipeline.reset(), response, "the map is empty")

    async def _on_save_map(self, request: SaveMap.Request, response: SaveMap.Response) -> SaveMap.Response:
        return await self._answer(lambda: self._pipeline.save(request.folder), response)

    async def _on_load_map(self, request: LoadMap.Request, response: LoadMap.Response) -> LoadMap.Response:
        self._discard()
        return await self._answer(lambda: self._pipeline.load(request.folder), response)

    async def _on_set_classes(self, request: SetClasses.Request, response: SetClasses.Response) -> SetClasses.Response:
        return await self._answer(lambda: self._pipeline.set_classes(list(request.classes)), response)

    async def _on_query(self, request: Query.Request, response: Query.Response) -> Query.Response:
        return await self._answer(lambda: fill(response, self._pipeline.query(request.text, request.threshold)),
                                  response)

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        active = self._map_timer is not None
        if active:
            self._paused = request.data
        if active and self._paused:
            self._discard()
        elif self._intake:
            self._intake.expect_images()
        response.success, response.message = active, self._switched()
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Unlike `pause`, false hears nothing any more, so that not even the arrival of images costs anything."""
        active = self._map_timer is not None
        if active and request.data and not self._enabled:
            self._listen()
        elif active and not request.data:
            self._stop_listening()
        if active:
            self._enabled = request.data
        response.success, response.message = active, self._switched()
        return response

    def _switched(self) -> str:
        """What the node does by `pause` and `enable` together: either alone keeps it from mapping."""
        if self._map_timer is None:
            return f"the node is {self._stage}"
        off = ["disabled"] * (not self._enabled) + ["paused"] * self._paused
        return " and ".join(off) or "running"

    async def _answer(self, job: Callable, response, text: str | None = None):
        """Runs the job on the worker's thread and fills in `success` and `message`, the job's result unless `text`."""
        if self._worker is None:                    # the services are about to go
            response.success, response.message = False, f"the node is {self._stage}"
            return response
        done = RosFuture(executor=self.executor)
        self._worker.run(job).add_done_callback(done.set_result)
        finished: Future = await done
        try:
            result = finished.result()
            response.success, response.message = True, text or str(result)
        except LsmError as error:
            response.success, response.message = False, str(error)
        except CancelledError:
            response.success, response.message = False, "the node is stopping"
        except Exception as error:                  # noqa: BLE001 the caller gets an answer in any case
            self.get_logger().error(traceback.format_exc())
            response.success, response.message = False, f"{type(error).__name__}: {error}"
        return response

    # Parameters.

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        options, result = checked_update(self._options, parameters, configured=self._pipeline is not None)
        if result.successful and options != self._options:
            if self._pipeline:
                self._worker.run(partial(self._pipeline.configure, options))
            if self._map_timer and options.node.map_period_s != self._options.node.map_period_s:
                self._map_timer.timer_period_ns = round(options.node.map_period_s * 1e9)
                self._map_timer.reset()                 # else the call that is due by the old period comes first
            if self._map_timer:
                self._map_odom.start(options.node)
            self._options = options
        return result


def main(args: list[str] | None = None, make_predictor: Callable[[PredictorConfig], NetworkPredictor] = NetworkPredictor
         ) -> int:
    """The executable lsm_node."""
    tune_allocator()
    try:
        with spinning(lambda: LsmNode(make_predictor), args, END_S) as (node, executor, stop):
            node.start()
            spin(executor, stop, node.survive)
    except LsmError as error:
        print(f"lsm_node: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A map as rerun (rerun.io) shows it: which entity holds what, in which colours, and from where one looks at it first.

    map                         z up, metres
      cloud/colour, cloud/class points; beside each one `ceiling`, hidden at first, so that one sees into the rooms
      view                      the newest view's own points
      path                      of the camera
      camera, camera/image      the camera and what it sees, over time; without intrinsics, axes alone
      keyframes/ID              where the map's views were taken
      graph/edges, graph/loops  what ties them, the loops in orange
      objects                   boxes with names

The one timeline is `stamp`, that of the images.
"""
from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lsm_ros.contracts import Cloud
from lsm_ros.data.pictures import OBLIQUE_ELEVATION, above_rooms
from lsm_ros.data.recording import encode_image
from lsm_ros.data.splat import fit_view, spacing
from lsm_ros.errors import ConfigError, OutputError

if TYPE_CHECKING:
    import rerun.blueprint as rrb

INSTALL = "pip install 'rerun-sdk>=0.39'"
TIMELINE = "stamp"
CLOCK_FROM_NS = 10**18          # stamps from 2001 on are a clock's; earlier ones count from the start of a video
PATH_COLOR, EDGE_COLOR, LOOP_COLOR, CAMERA_COLOR = (240, 178, 30), (128, 153, 179), (255, 102, 26), (0, 190, 200)
PATH_M, EDGE_M, LOOP_M, BOX_M = 0.012, 0.004, 0.012, 0.008      # radii of the lines
LINE_M = 0.004                                      # of the cameras
VIEW_M = 0.006                                      # radius of the points of one view
FRUSTUM_M, CAMERA_M, AXIS_M = 0.1, 0.6, 0.15        # how far off the image of a keyframe and of the camera is drawn
JPEG = [int(cv2.IMWRITE_JPEG_QUALITY), 85]
EYE_VERTICAL_FOV = np.radians(55)                   # rerun's
EYE_STEPS_BACK = 1.25                               # what is nearer than the middle looks larger than by fit_view
PANEL = (1000, 800)                                 # shape of the panel that the eye is placed for


@dataclass(frozen=True)
class Legend:
    """What the labels of a cloud mean."""
    names: tuple[str, ...]      # C
    colors: np.ndarray          # (C, 3) uint8 RGB


@dataclass(frozen=True)
class Boxes:
    """B named boxes in the map."""
    centers: np.ndarray         # (B, 3) metres
    sizes: np.ndarray           # (B, 3) full extents along their own axes, metres
    yaws: np.ndarray            # (B,) radians about map z
    names: Sequence[str]        # B
    colors: np.ndarray          # (B, 3) uint8 RGB


class Drawing:
    """Draws into a window of rerun, or into a file. `at` sets the stamp of what follows; `static` things are for ever.

    Raises ConfigError where rerun is not installed, or has no screen to open a window on; OutputError for a file that
    cannot be written.
    """

    def __init__(self, title: str, save: Path | None = None):
        try:
            import rerun
        except ImportError as error:
            raise ConfigError(f"lsm view draws with rerun, which this Python lacks ({error}): {INSTALL}") from error
        if save is None and sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
            raise ConfigError("lsm view has no screen here; --save map.rrd writes a file, which `rerun map.rrd` opens "
                              "where there is one")
        self._rr, self._names = rerun, ()
        self._rec = rerun.RecordingStream("lsm_view")
        rerun.set_log_time_enabled(False, recording=self._rec)
        if save is None:
            self._open_window()
        else:
            try:
                save.open("wb").close()         # rerun tells no reason
                self._rec.save(save)
            except OSError as error:
                raise OutputError(f"{save} can't be written: {error.strerror or error}") from error
        self._rec.send_recording_name(title)
        self._log("map", rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)

    def at(self, stamp_ns: int) -> None:
        """What is drawn from here on is so from this stamp on."""
        if stamp_ns >= CLOCK_FROM_NS:
            self._rec.set_time(TIMELINE, timestamp=np.datetime64(stamp_ns, "ns"))
        else:
            self._rec.set_time(TIMELINE, duration=np.timedelta64(stamp_ns, "ns"))

    def label(self, legend: Legend, static: bool = False) -> None:
        """What the labels of the clouds that follow mean."""
        self._names = legend.names
        rows = enumerate(zip(legend.names, legend.colors.tolist(), strict=True))
        self._log("map", self._rr.AnnotationContext([(index, name, color) for index, (name, color) in rows]),
                  static=static)

    def cloud(self, cloud: Cloud, positions: np.ndarray, static: bool = False) -> None:
        """The map's points by colour and by class; by the camera's positions (M, 3) the ceiling is told apart."""
        above = above_rooms(cloud, positions, self._names) if len(cloud) else np.zeros(0, bool)
        radius = spacing(cloud.points) * 0.6
        for part, chosen in (("", ~above), ("/ceiling", above)):
            points = cloud.points[chosen]
            self._log(f"map/cloud/colour{part}", self._rr.Points3D(
                points, colors=cloud.colors[chosen], radii=radius), static=static)
            self._log(f"map/cloud/class{part}", self._rr.Points3D(
                points, class_ids=cloud.labels[chosen], radii=radius, show_labels=False), static=static)

    def view(self, cloud: Cloud) -> None:
        """The points of the newest view, in the map."""
        self._log("map/view", self._rr.Points3D(cloud.points, colors=cloud.colors, radii=VIEW_M))

    def path(self, positions: np.ndarray, static: bool = False) -> None:
        """(M, 3) metres."""
        self._log("map/path", self._rr.LineStrips3D([positions], colors=PATH_COLOR, radii=PATH_M), static=static)

    def camera(self, T_map_cam: np.ndarray) -> None:
        self._log("map/camera", self._pose(T_map_cam))
        self._log("map/camera/axes", self._rr.Arrows3D(vectors=AXIS_M * np.eye(3), colors=255 * np.eye(3, dtype=int)))

    def image(self, image: np.ndarray, K: np.ndarray | None) -> None:
        """(H, W, 3) uint8 RGB as the camera sees it; K (3, 3) of it in the convention of geometry/camera."""
        if K is not None:
            self._log("map/camera/image", self._pinhole(K, image.shape[1::-1], CAMERA_M))
        jpeg = encode_image(".jpg", image[..., ::-1], JPEG)
        self._log("map/camera/image", self._rr.EncodedImage(contents=jpeg, media_type="image/jpeg"))

    def keyframe(self, keyframe_id: int, T_map_cam: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> None:
        """A keyframe's camera, for ever; K (3, 3) of an image of `size` (width, height)."""
        name = f"map/keyframes/{keyframe_id}"
        self._log(name, self._pose(T_map_cam), static=True)
        self._log(name, self._pinhole(K, size, FRUSTUM_M), static=True)

    def graph(self, edges: np.ndarray, loops: np.ndarray, static: bool = False) -> None:
        """Lines (E, 2, 3) between keyframes, those that close loops (L, 2, 3) apart; metres."""
        for name, lines, color, radius in (("edges", edges, EDGE_COLOR, EDGE_M), ("loops", loops, LOOP_COLOR, LOOP_M)):
            self._log(f"map/graph/{name}", self._rr.LineStrips3D(lines, colors=color, radii=radius), static=static)

    def objects(self, boxes: Boxes, static: bool = False) -> None:
        halves = np.asarray(boxes.yaws) / 2
        turns = np.stack([0 * halves, 0 * halves, np.sin(halves), np.cos(halves)], axis=-1)
        light = (boxes.colors.astype(np.uint16) + 255) // 2         # rerun writes in this colour too, on dark
        self._log("map/objects", self._rr.Boxes3D(centers=boxes.centers, sizes=boxes.sizes, quaternions=turns,
                                                  labels=list(boxes.names), colors=light.astype(np.uint8), radii=BOX_M),
                  static=static)

    def finish(self, cloud: Cloud | None, positions: np.ndarray) -> None:
        """Places the panels and the eye, which looks down on the cloud and the path (M, 3), and writes what is left."""
        self._rec.send_blueprint(self._blueprint(cloud, positions))
        self._rec.flush()
        self._rec.disconnect()

    def _open_window(self) -> None:
        """The viewer lies beside this Python, which need not be on the PATH."""
        viewer = shutil.which("rerun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        try:
            self._rr.spawn(recording=self._rec, executable_path=viewer)
        except RuntimeError as error:
            raise OutputError(f"rerun's viewer {viewer} can't be started: {error}") from error

    def _blueprint(self, cloud: Cloud | None, positions: np.ndarray) -> rrb.Blueprint:
        import rerun.blueprint as rrb

        eye = None
        if cloud is not None and len(cloud):
            points = cloud.points[~above_rooms(cloud, positions, self._names)].astype(np.float64)
            heading = np.array([0.0, 1, 0]) if len(positions) < 2 else positions[-1] - positions[0]
            fit = fit_view(points, positions.reshape(-1, 3), heading, OBLIQUE_ELEVATION, PANEL, margin=0)
            away = EYE_STEPS_BACK * fit.metres_per_pixel * PANEL[1] / 2 / np.tan(EYE_VERTICAL_FOV / 2)
            eye = rrb.EyeControls3D(position=fit.centre_map - away * fit.R_view_map[2], look_target=fit.centre_map,
                                    eye_up=(0, 0, 1))

        def panel(shown: str, other: str, also: str) -> rrb.Spatial3DView:
            return rrb.Spatial3DView(
                origin="map", name=f"by {shown}", eye_controls=eye, line_grid=False,
                contents=["$origin/**", f"- $origin/cloud/{other}/**", also],
                overrides={f"map/cloud/{shown}/ceiling": rrb.EntityBehavior(visible=False)})

        return rrb.Blueprint(
            rrb.Horizontal(
                panel("class", "colour", "- $origin/view"),
                rrb.Vertical(panel("colour", "class", "- $origin/objects"),
                             rrb.Spatial2DView(origin="map/camera/image", name="camera"), row_shares=[3, 2]),
                column_shares=[5, 3]),
            rrb.BlueprintPanel(state="collapsed"), rrb.SelectionPanel(state="collapsed"),
            rrb.TimePanel(state="collapsed", timeline=TIMELINE), auto_views=False)

    def _pose(self, T_map_cam: np.ndarray):
        return self._rr.Transform3D(translation=T_map_cam[:3, 3], mat3x3=T_map_cam[:3, :3])

    def _pinhole(self, K: np.ndarray, size: tuple[int, int], distance_m: float):
        return self._rr.Pinhole(image_from_camera=K, resolution=size, camera_xyz=self._rr.ViewCoordinates.RDF,
                                image_plane_distance=distance_m, color=CAMERA_COLOR, line_width=LINE_M)

    def _log(self, entity: str, what, static: bool = False) -> None:
        self._rec.log(entity, what, static=static, strict=True)

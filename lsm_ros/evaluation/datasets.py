"""Windows with their truth: from real sequences in a folder, and from rendered worlds that no training has seen.

Rooms, places and cameras of these are their own; photo textures and furniture models are those of the training.
"""
from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from lsm_ros.contracts import Frame, Keyframe, Window
from lsm_ros.data.borders import Borders
from lsm_ros.data.frames import SequenceFrame
from lsm_ros.data.sequences import FolderSequence
from lsm_ros.data.turning import turn, turned, turned_plane
from lsm_ros.errors import InputError
from lsm_ros.evaluation.metrics import ClassBox, at_grid
from lsm_ros.geometry.sim3 import exp_so3, inverse
from lsm_ros.labels import LabelSet
from lsm_ros.world.edges import BORDER_KINDS, random_edge, seen_inside
from lsm_ros.world.movers import MOVED_M

MAX_VIEWS = 8       # of a window
LOOKS = 6           # images of a folder by which the border of its camera is found
NO_LABEL = 65535    # of a true label that is none of those asked for
FARTHEST_M = 40.0   # beyond it (the sky outside a window) rendered depth is not scored, as it isn't trained


@dataclass(frozen=True)
class TruthWindow:
    """A window as the predictor gets it, and what is true of its views."""
    window: Window
    T_world_cam: np.ndarray       # (S, 4, 4) float64, metres
    K: np.ndarray                 # (S, 3, 3) float64 pixels of the images, whether or not the window's frames tell it
    depth: np.ndarray             # (S, H, W) float32 metres, NaN where unknown
    labels: np.ndarray | None     # (S, H, W) uint16 index into the shipped labels, or none of them
    moving: np.ndarray | None = None    # (S, H, W) bool, what is elsewhere in another view; None: nobody knows


def in_labels(shipped: np.ndarray, labels: LabelSet) -> np.ndarray:
    """True labels, indices into the shipped ones, as indices into `labels`, by name; NO_LABEL where it has no such
    name."""
    names = shipped_names()
    if labels.names == names:
        return shipped
    index = [labels.names.index(name) if name in labels.names else NO_LABEL for name in names]
    return np.array([*index, NO_LABEL], np.uint16)[np.minimum(shipped, len(names))]


def bordered(seen: np.ndarray, image: np.ndarray, depth: np.ndarray | None,
             labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Images (..., H, W, 3), black where `seen` (..., H, W) is not set, and their truth (..., h, w), unknown there."""
    def known(plane: np.ndarray | None, unknown: np.generic) -> np.ndarray | None:
        return None if plane is None else np.where(at_grid(seen, *plane.shape[-2:]), plane, unknown)
    return (np.where(seen[..., None], image, np.uint8(0)), known(depth, np.float32(np.nan)),
            known(labels, np.uint16(NO_LABEL)))


@lru_cache(maxsize=1)
def shipped_names() -> tuple[str, ...]:
    return LabelSet.load().names


class FolderWindows(Sequence[TruthWindow]):
    """Windows of a folder of the truth layout (data/sequences.py): `views` frames `gap` apart, begun every `stride`.

    `intrinsics`, `odometry` and `depth` say what the frames tell of themselves. The odometry is the true motion with
    the errors of wheels: 3 % of the way and half a degree from view to view. `border`, one of BORDER_KINDS
    (world/edges.py), is drawn around the images, in black, before the borders of the camera are found and filled; what
    it hides has no truth. `turned`, quarters of a turn, shows the images as a camera would that is held on its side or
    upside down. Raises InputError for a folder without intrinsics, poses or depth, or one that is too short
    for a window; and at a window with a file that is damaged, or with intrinsics of another size than its images.
    """

    def __init__(self, folder: str | Path, views: int = 4, gap: int = 8, stride: int = 2, intrinsics: bool = False,
                 odometry: bool = False, depth: bool = False, border: str | None = None, turned: int = 0):
        if not 1 <= views <= MAX_VIEWS or gap < 1 or stride < 1:
            raise InputError(f"views = {views}, gap = {gap}, stride = {stride}; a window has 1 to {MAX_VIEWS} views, "
                             "gap and stride are at least 1")
        if border is not None and border not in BORDER_KINDS:
            raise InputError(f"no kind of border {border!r}; there are {', '.join(BORDER_KINDS)}")
        if turned not in range(4):
            raise InputError(f"turned = {turned}; it is 0 to 3 quarters of a turn")
        if not Path(folder).is_dir():
            raise InputError(f"there is no folder {folder}")
        try:
            sequence = FolderSequence(Path(folder))
        except InputError as error:
            raise InputError(f"{folder} cannot be scored: {error}") from error
        if sequence.K is None:
            raise InputError(f"{folder} has no intrinsics.txt; its windows have no truth")
        self.name, self.intrinsics, self.odometry, self.depth = Path(folder).resolve().name, intrinsics, odometry, depth
        span = (views - 1) * gap
        starts = range(0, len(sequence) - span, stride)
        self.indices = [list(range(start, start + span + 1, gap)) for start in starts
                        if all(has_truth(Path(folder), sequence.images[start + i * gap].stem) for i in range(views))]
        if not self.indices:
            raise InputError(f"{folder} gives no window of {views} frames {gap} apart: it has {len(sequence)} frames, "
                             "and every frame of a window needs its pose and depth")
        self.sequence, self.border, self.turned = sequence, border, turned
        self.read = lru_cache(maxsize=span + 2)(self._read)     # neighbouring windows share most frames

    def _read(self, index: int) -> SequenceFrame:
        frame = turned_frame(self.sequence[index], self.turned)
        if self.border is None:
            return frame
        seen = seen_inside(*frame.frame.image.shape[:2], **BORDER_KINDS[self.border])
        image, depth, labels = bordered(seen, frame.frame.image, frame.depth, frame.labels)
        return replace(frame, frame=replace(frame.frame, image=image), depth=depth, labels=labels)

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def borders(self) -> Borders:
        """Of the camera, by some images of all."""
        frames = np.unique(self.indices)
        return Borders.of(self.read(i).frame.image for i in frames[::max(1, len(frames) // LOOKS)])

    def __getitem__(self, index: int) -> TruthWindow:
        frames = [self.read(i) for i in self.indices[index]]
        T_world_cam = np.stack([frame.T_world_cam for frame in frames])
        grid = frames[0].depth.shape               # of the others' truth, too, if theirs has another size
        T_odom_cam = wheel_odometry(T_world_cam, index) if self.odometry else [None] * len(frames)
        keyframes = (Keyframe(i, self.borders.filled(
                         Frame(frame.frame.stamp_ns, frame.frame.image, frame.frame.K if self.intrinsics else None, T,
                               frame.depth if self.depth else None)))
                     for i, frame, T in zip(self.indices[index], frames, T_odom_cam, strict=True))
        return TruthWindow(window=Window(tuple(keyframes)), T_world_cam=T_world_cam,
                           K=np.stack([frame.frame.K for frame in frames]),
                           depth=np.stack([at_grid(frame.depth, *grid) for frame in frames]),
                           labels=None if any(frame.labels is None for frame in frames) else
                           np.stack([at_grid(frame.labels, *grid) for frame in frames]))


def turned_frame(frame: SequenceFrame, quarters: int) -> SequenceFrame:
    """As a camera that is turned clockwise by so many quarters would show it."""
    depth, labels = (None if plane is None else turned_plane(plane, quarters) for plane in (frame.depth, frame.labels))
    T_world_cam = None if frame.T_world_cam is None else frame.T_world_cam @ turn(quarters)
    return SequenceFrame(turned(frame.frame, quarters), depth, T_world_cam, labels)


def wheel_odometry(T_world_cam: np.ndarray, seed: int) -> np.ndarray:
    """(S, 4, 4) true poses -> T_odom_cam as wheels would have it, from the identity on, with errors that add up."""
    rng = np.random.default_rng(seed)
    T_odom_cam = [np.eye(4)]
    for step in inverse(T_world_cam[:-1]) @ T_world_cam[1:]:
        step[:3, :3] = step[:3, :3] @ exp_so3(rng.normal(0, np.radians(0.5), 3))
        step[:3, 3] *= 1 + rng.normal(0, 0.03)
        T_odom_cam.append(T_odom_cam[-1] @ step)
    return np.array(T_odom_cam)


def has_truth(folder: Path, stem: str) -> bool:
    """Whether a frame has depth and a pose of finite numbers (ScanNet writes -inf where tracking was lost)."""
    pose = folder / "pose" / f"{stem}.txt"
    if not (folder / "depth" / f"{stem}.png").exists() or not pose.exists():
        return False
    text = pose.read_text("utf8", errors="replace").lower()
    return "inf" not in text and "nan" not in text


@dataclass(frozen=True)
class BoxedFrame:
    """An image with rectangles that lie inside one class each."""
    keyframe: Keyframe
    boxes: tuple[ClassBox, ...]


def read_boxes(path: str | Path) -> dict[str, tuple[ClassBox, ...]]:
    """The rectangles of a file, by image. Raises InputError for what is none."""
    try:
        content = json.loads(Path(path).read_text("utf8"))
        entries = {name: tuple(map(read_box, boxes)) for name, boxes in content.items()}
        if "" in entries:
            raise ValueError("a name is empty")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"the rectangles {path} cannot be read: {error!r}") from error
    return entries


def boxed_frames(path: str | Path, folder: str | Path | None = None, intrinsics: bool = False) -> Iterator[BoxedFrame]:
    """The frames of a file of rectangles: {"SEQUENCE/color/NAME.jpg": [{"cls": name, "box": [x0, y0, x1, y1]}]}.

    Args:
        path: the JSON file; box corners are shares of width and height.
        folder: the sequence's folder, which is the only one that is read; None finds each one near the file.
        intrinsics: whether the frames tell theirs.

    Raises InputError for an unreadable file, or one that has no rectangle for `folder`.
    """
    path, entries = Path(path), read_boxes(path)
    if folder is not None:
        sequence = Path(folder).resolve().name
        entries = {name: boxes for name, boxes in entries.items() if Path(name).parts[0] == sequence}
        if not any(entries.values()):
            raise InputError(f"{path} has no rectangle for the sequence {sequence!r}")
    for name, boxes in entries.items():
        root = Path(folder) if folder is not None else path.parents[1] / Path(name).parts[0]
        sequence = open_folder(root)
        stems = [image.stem for image in sequence.images]
        if Path(name).stem not in stems:
            raise InputError(f"{root} has no image {Path(name).name}, which {path} has rectangles for")
        index = stems.index(Path(name).stem)
        frame = sequence[index].frame
        yield BoxedFrame(Keyframe(index, Frame(frame.stamp_ns, frame.image, frame.K if intrinsics else None)), boxes)


def read_box(box: dict) -> ClassBox:
    """{"cls": name, "box": [x0, y0, x1, y1]}. Raises ValueError, TypeError or KeyError for anything else."""
    name, corners = box["cls"], box["box"]
    if not isinstance(name, str) or len(corners) != 4 or not all(isinstance(share, (int, float)) for share in corners):
        raise ValueError(f"{box} is not a class and four shares")
    return ClassBox(name, tuple(corners))


@lru_cache(maxsize=4)
def open_folder(folder: Path) -> FolderSequence:
    return FolderSequence(folder)


KINDS = {"home": ("home", "bedroom", "apartment", "bath"), "office": ("office",), "kitchen": ("kitchen",),
         "corridor": ("corridor",), "hall": ("hall",)}
"""The kinds that are scored apart, and the kinds of world/rooms.py that each stands for."""


@dataclass(frozen=True)
class WorldStyle:
    """What held-out worlds are made of."""
    textures: str | None = None    # a folder or packed file of photo textures; None: patterns
    meshes: str | None = None      # a packed file of furniture meshes; None: primitives
    kind: str | None = None        # one of KINDS, or None: all, as often as training draws them
    automatic: bool = False        # cameras that set exposure, white balance and tones anew for each view
    borders: bool = False          # a black border around each path's images, which is found and filled as in a map
    rolled: bool = False           # cameras that lean to one side, by up to 50 degrees
    flat: bool = False             # cameras that show little contrast, or no colour
    moving: bool = False           # somebody walks or something is moved, and the score says how much of it was noticed
    low: bool = False              # cameras of small robots, 6 to 40 cm above the floor

    def __post_init__(self):
        if self.kind is not None and self.kind not in KINDS:
            raise InputError(f"no kind of world {self.kind!r}; there are {', '.join(KINDS)}")

    @property
    def name(self) -> str:
        """As it stands in the scoreboard: "rendered home", "rendered worlds with meshes and automatic cameras"."""
        return (f"rendered {self.kind or 'worlds'}{' with meshes' * bool(self.meshes)}"
                f"{' and automatic cameras' * self.automatic}{' and borders' * self.borders}"
                f"{' and rolled cameras' * self.rolled}{' and flat pictures' * self.flat}"
                f"{' and things that move' * self.moving}{' and low cameras' * self.low}")


class WorldWindows(Sequence[TruthWindow]):
    """Held-out rendered worlds: camera paths of 8 views, cut into windows of 1, 2, 4 or 8.

    However many views a window has, the same images are scored.
    """
    VIEWS = 8

    def __init__(self, worlds: int, size: tuple[int, int] = (192, 256), views: int = 4, intrinsics: bool = False,
                 device: str = "cpu", style: WorldStyle = WorldStyle()):
        """Renders the first `worlds` held-out seeds at `size` (height, width) on `device`."""
        if views not in (1, 2, 4, 8):
            raise InputError(f"views = {views}; rendered paths of {self.VIEWS} views are cut into 1, 2, 4 or 8")
        self.rendered, self.views, self.intrinsics = held_out(worlds, size, device, style), views, intrinsics
        self.borders = style.borders
        self.name = f"{style.name}{', tall' * (size[0] > size[1])}, {views} view{'s' * (views > 1)}"
        self.per_world = self.VIEWS // views

    def __len__(self) -> int:
        return len(self.rendered.image) * self.per_world

    def __getitem__(self, index: int) -> TruthWindow:
        if not 0 <= index < len(self):
            raise IndexError(index)
        world, part = divmod(index, self.per_world)
        views = slice(part * self.views, (part + 1) * self.views)
        data = self.rendered
        borders = Borders.of(data.image[world] if self.borders else ())
        keyframes = tuple(Keyframe(world * self.VIEWS + view, borders.filled(
                              Frame(view, data.image[world, view], data.K[world, view] if self.intrinsics else None)))
                          for view in range(self.VIEWS)[views])
        return TruthWindow(Window(keyframes), data.T_world_cam[world, views], data.K[world, views],
                           data.depth[world, views], data.labels[world, views], data.moving(world, views))


@dataclass(frozen=True)
class RenderedPaths:
    """N camera paths of V views."""
    image: np.ndarray         # (N, V, H, W, 3) uint8 RGB
    depth: np.ndarray         # (N, V, H, W) float32 metres, NaN beyond FARTHEST_M
    labels: np.ndarray        # (N, V, H, W) uint16
    K: np.ndarray             # (N, V, 3, 3) float64 pixels
    T_world_cam: np.ndarray   # (N, V, 4, 4) float64
    body: np.ndarray | None = None        # (N, V, H, W) uint8 and (N, V, V, 1 + bodies) bool: which of what moves, and
    moved: np.ndarray | None = None       # which of that is elsewhere in one view than in another

    def moving(self, path: int, views: slice) -> np.ndarray | None:
        """As in TruthWindow, for some of the views of a path."""
        if self.body is None or self.moved is None:
            return None
        moved = self.moved[path, views, views].any(axis=1)
        return np.take_along_axis(moved, self.body[path, views].reshape(len(moved), -1).astype(int), 1).reshape(
            self.body[path, views].shape)


def held_out(worlds: int, size: tuple[int, int], device: str, style: WorldStyle) -> RenderedPaths:
    """The first `worlds` held-out seeds, with the borders of the style, which are those of no training."""
    paths = render_held_out(worlds, size, device, replace(style, borders=False))
    if not style.borders:
        return paths
    rng = np.random.default_rng(0)
    seen = np.stack([random_edge(rng, *size) for _ in paths.image])[:, None]
    image, depth, labels = bordered(seen, paths.image, paths.depth, paths.labels)
    return replace(paths, image=image, depth=depth, labels=labels)


@lru_cache(maxsize=2)
def render_held_out(worlds: int, size: tuple[int, int], device: str, style: WorldStyle) -> RenderedPaths:
    """The first `worlds` held-out seeds, less the paths that the renderer calls unusable."""
    from lsm_ros.world.stream import HELD_OUT_SEEDS, fixed_batch  # compiles its kernel; the real sets do without
    if not 1 <= worlds <= len(HELD_OUT_SEEDS):
        raise InputError(f"worlds = {worlds}; there are 1 to {len(HELD_OUT_SEEDS)} held-out worlds")
    seeds = list(HELD_OUT_SEEDS[:worlds])
    kinds = KINDS[style.kind] if style.kind else (None,)
    parts: list[RenderedPaths] = []
    for first, kind in enumerate(kinds):
        mine = seeds[first::len(kinds)]
        for start in range(0, len(mine), 16):                      # 128 images at a time
            batch = fixed_batch(mine[start:start + 16], size, WorldWindows.VIEWS, device, textures=style.textures,
                                meshes=style.meshes, kind=kind, automatic=float(style.automatic),
                                rolled=float(style.rolled), flat=float(style.flat), moving=style.moving,
                                low=float(style.low))
            keep = batch.valid.cpu().numpy().astype(bool)
            depth = batch.depth.float().cpu().numpy()[keep]
            image = (batch.image.float().clamp(0, 1) * 255).round().byte().permute(0, 1, 3, 4, 2)
            parts.append(RenderedPaths(
                image=image.cpu().numpy()[keep],
                depth=np.where((depth > 0) & (depth < FARTHEST_M), depth, np.float32(np.nan)),
                labels=batch.label.cpu().numpy()[keep].astype(np.uint16),
                K=batch.K.double().cpu().numpy()[keep], T_world_cam=batch.T_world_cam.double().cpu().numpy()[keep],
                **({"body": batch.body.cpu().numpy()[keep], "moved": batch.displaced.cpu().numpy()[keep] > MOVED_M}
                   if style.moving else {})))
    if not any(len(part.image) for part in parts):
        raise InputError(f"none of the {worlds} {style.name} gives a usable camera path; take more of them")
    return RenderedPaths(*(None if getattr(parts[0], name) is None else
                           np.concatenate([getattr(part, name) for part in parts])
                           for name in RenderedPaths.__dataclass_fields__))

"""Every knob of the mapper: its default, its range and its reason, told once.

The ROS parameters, the command line and the tests all read these dataclasses, so a default has one home.
"""
from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from lsm_ros.errors import ConfigError


def option(default: Any, text: str, *, minimum: float | None = None, maximum: float | None = None,
           choices: tuple | None = None, read_only: bool = False) -> Any:
    """A dataclass field that carries its own documentation and range.

    Args:
        default: the only place where the default is written.
        text: one sentence for `lsm --help`, `ros2 param describe` and the docs, with the unit.
        minimum, maximum: inclusive bounds of a number.
        choices: the allowed values of a string.
        read_only: true where a change needs a restart of the mapper.
    """
    return field(default=default, metadata=dict(text=text, minimum=minimum, maximum=maximum, choices=choices,
                                                read_only=read_only))


class Options:
    """Checks a frozen dataclass of options when it is made."""

    def __post_init__(self):
        for item in fields(self):
            check(item.name, getattr(self, item.name), item)

    @classmethod
    def from_dict(cls, values: dict[str, Any]):
        """Raises ConfigError for a key that does not exist, naming it and the keys that do."""
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"unknown key {', '.join(map(repr, unknown))} in {cls.__name__}; "
                              f"known: {', '.join(sorted(known))}")
        return cls(**values)


def check(name: str, value: Any, item) -> None:
    """Raises ConfigError if `value` has another type than the default of `item`, or lies outside its range."""
    default, meta = item.default, item.metadata
    if default is MISSING or not meta:
        return
    number = isinstance(default, (int, float)) and not isinstance(default, bool)
    good = isinstance(value, (int, float)) and not isinstance(value, bool) if isinstance(default, float) \
        else type(value) is type(default)
    if not good:
        raise ConfigError(f"{name} = {value!r} is of type {type(value).__name__}; it must be of type "
                          f"{type(default).__name__}")
    if number and value != value:
        raise ConfigError(f"{name} is NaN")
    if meta["minimum"] is not None and value < meta["minimum"]:
        raise ConfigError(f"{name} = {value!r} is below its minimum {meta['minimum']}")
    if meta["maximum"] is not None and value > meta["maximum"]:
        raise ConfigError(f"{name} = {value!r} is above its maximum {meta['maximum']}")
    if meta["choices"] is not None and value not in meta["choices"]:
        raise ConfigError(f"{name} = {value!r} is none of {', '.join(map(repr, meta['choices']))}")


@dataclass(frozen=True)
class PredictorConfig(Options):
    """How the network is run."""
    weights: str = option("", "Weights file (safetensors); empty for the one shipped with the package.", read_only=True)
    labels: str = option("", "Label file (YAML); empty for the shipped indoor set.", read_only=True)
    device: str = option("auto", "Where the network runs: auto, cpu, cuda or cuda:N.", read_only=True)
    precision: str = option("auto", "Of the network's products: float32; bfloat16, which changes depth by half a per "
                            "cent and saves time where the chip has instructions for it; auto: bfloat16 on GPUs "
                            "(NVIDIA's from Ampere on), and on CPUs with AVX512-BF16 or AMX that prove quicker in it.",
                            choices=("auto", "float32", "bfloat16"), read_only=True)
    threads: int = option(0, "CPU threads of the network; 0 lets torch choose.", minimum=0, maximum=256, read_only=True)
    cuda_graphs: bool = option(True, "On a GPU: records the network's work at the first windows, as CUDA graphs, and "
                               "then launches it in one go.", read_only=True)
    compile: bool = option(False, "Compiles the network's parts with torch.compile, which takes a minute at the first "
                           "window of each number of views; on a GPU it needs Triton and a C compiler. Without "
                           "them the log says so and nothing is compiled.", read_only=True)
    token_cache: int = option(64, "Frames whose encoder tokens are kept for later windows.", minimum=8, maximum=4096,
                              read_only=True)


@dataclass(frozen=True)
class MapperConfig(Options):
    """How frames become a map."""
    window_views: int = option(4, "Views in a window: the newest keyframe and earlier ones that see its place.",
                               minimum=2, maximum=8)
    keyframe_motion: float = option(0.08, "Mean image motion, as a share of the image width, that makes a keyframe.",
                                    minimum=0.005, maximum=1.0)
    keyframe_tracks: float = option(0.5, "Share of a keyframe's corners that must still be tracked; fewer make the "
                                    "next.",
                                    minimum=0.0, maximum=1.0)
    confidence_drop: float = option(0.25, "Share of a view's pixels, the least confident ones, that the map ignores; "
                                    "of those that look like things a fifth of it.",
                                    minimum=0.0, maximum=0.9)
    leave_out_moving: bool = option(True, "Leave out of the map, and of what poses are found by, what the network sees "
                                    "move between its images. The topics of the newest view show it in any case.")
    max_depth_m: float = option(8.0, "Points farther from their camera are not fused, metres.",
                                minimum=0.5, maximum=200.0)
    refine_poses: bool = option(True, "Move the predicted poses to where points matched between the images agree.")
    alignment_tolerance: float = option(0.15, "A point fits where it is off by less than this share of its depth.",
                                        minimum=0.01, maximum=1.0)
    min_inliers: float = option(0.4, "Share of an earlier keyframe's points that must fit the map for it to hold a "
                                "window.",
                                minimum=0.0, maximum=1.0)
    min_agreement: float = option(0.4, "Share of a newest view's points that must fit an earlier one where no images "
                                  "match.",
                                  minimum=0.0, maximum=1.0)
    max_scale_change: float = option(4.0, "A window whose scale differs from the map's by a larger factor is refused.",
                                     minimum=1.1, maximum=100.0)
    scale_source: str = option("auto", "Where the metre comes from: network (as it sees it, 2 to 20 % off); "
                               "odometry (how far the camera went by it); height (of the camera over the floor); depth "
                               "(a measured depth image); fixed (scale_factor); auto: the best of depth, odometry, "
                               "height and network that there is.",
                               choices=("auto", "network", "odometry", "height", "depth", "fixed"))
    scale_factor: float = option(1.0, "Map metres per metre as the network sees it, of scale_source fixed.",
                                 minimum=0.05, maximum=20.0)
    camera_height_m: float = option(0.0, "Height of the camera over the floor, metres; 0 where it changes or nobody "
                                    "knows it, or where TF tells it.", minimum=0.0, maximum=10.0)
    loops: bool = option(True, "Recognise places that were seen before, and pull the map together there.")
    max_keyframes: int = option(600, "Keyframes that are remembered, some 0.6 MB each; beyond it those are forgotten "
                                "that `forget` says, with what they brought to the map. As many may wait beside it in "
                                "maps that were put away.", minimum=20, maximum=1000000)
    forget: str = option("redundant", "Which keyframes go first: those beside another that looks the same way, and the "
                         "farthest once there are no such; those farthest from the camera; or the oldest.",
                         choices=("redundant", "farthest", "oldest"))
    map_radius_m: float = option(0.0, "Keyframes farther than this from the camera are forgotten, metres; 0: none.",
                                 minimum=0.0, maximum=10000.0)
    optimised_keyframes: int = option(64, "Newest keyframes whose poses each window may move; all of them now and "
                                      "then.",
                                      minimum=8, maximum=100000)
    level: bool = option(True, "Find the vertical by floors, ceilings and walls; false trusts that the camera starts "
                         "level.")
    voxel_size_m: float = option(0.05, "Edge of a voxel of the fused map, metres.", minimum=0.005, maximum=1.0,
                                 read_only=True)
    min_observations: int = option(2, "Keyframes that must have seen a voxel before it is part of the map.", minimum=1,
                                   maximum=100)
    fused_again: int = option(2, "Keyframes that one push may fuse anew because their poses moved; bounds its time.",
                              minimum=0, maximum=1000)
    object_min_voxels: int = option(60, "Connected voxels of a class that make an object.", minimum=1, maximum=100000)

"""Names: of a camera's topics, as image_transport has them (a compressed image is a sub-topic of the raw one, and
camera_info lies beside that), and of nodes."""
from __future__ import annotations

import re

COMPRESSED = "/compressed"


def raw_topic(image_topic: str) -> str:
    """/camera/image_raw of /camera/image_raw/compressed, and of itself."""
    return image_topic.removesuffix(COMPRESSED)


def is_compressed(image_topic: str) -> bool:
    """Whether the name says that its images are compressed."""
    return image_topic.endswith(COMPRESSED)


def transported(image_topic: str, transport: str) -> str:
    """The topic of the messages of either name of an image topic; `transport` is raw or compressed. A name that says it
    is compressed is meant so, since raw is also what nobody has chosen."""
    return image_topic if is_compressed(image_topic) else image_topic + COMPRESSED * (transport == "compressed")


def info_topic(image_topic: str) -> str:
    """The camera_info that belongs to either name of an image topic."""
    return f"{raw_topic(image_topic).rsplit('/', 1)[0]}/camera_info"


def is_rectified(image_topic: str) -> bool:
    """By the names of image_proc and of drivers: image_rect, image_rect_color, rect/image."""
    return "rect" in re.split("[/_]", image_topic)


def split_node(name: str) -> tuple[str, str]:
    """The namespace, with its first slash, and the name of a node's full name, which may lack that slash, as launch
    takes a namespace: "robot1/lsm" -> ("/robot1", "lsm"), "lsm" -> ("/", "lsm")."""
    namespace, _, name = f"/{name.lstrip('/')}".rpartition("/")
    return namespace or "/", name

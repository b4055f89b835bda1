from __future__ import annotations

import pytest

from lsm_ros.world.rooms import make_scene
from lsm_ros.world.scene import Scene


@pytest.fixture
def without_and_with_sitters(monkeypatch):
    """A world in which nobody sits, and the same with somebody in all rooms that have seats."""
    def make(seed: int, kind: str) -> list[Scene]:
        scenes = []
        for share in (0.0, 1.0):
            monkeypatch.setattr("lsm_ros.world.rooms.SITTING", share)
            scenes.append(make_scene(seed, kind))
        return scenes
    return make

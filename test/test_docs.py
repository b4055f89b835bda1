"""What the documentation tells to type."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = ("", "sh", "bash")              # other blocks say what they are
COMMAND = re.compile(r"([A-Z_]+=\S+ )*"
                     r"(lsm|ros2|colcon|rosdep|pip|python3?|torchrun|make|git|apt(-get)?|sudo|cd|export|source|\.) ")


def commands(text: str) -> list[str]:
    """The lines of shell blocks, without those that only comment, or that go on from a line before."""
    found = []
    for language, block in BLOCK.findall(text):
        lines = block.replace("\\\n", "").splitlines() if language in SHELL else []
        found += [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return found


@pytest.mark.skipif(not PAGES[0].exists(), reason="no README.md beside the tests")
def test_a_command_line_begins_with_a_command():
    """Where a block was wrapped like prose, some of its lines do not."""
    told = {page.name: commands(page.read_text("utf8")) for page in PAGES}
    assert sum(map(len, told.values())) > 20
    assert {name: bad for name, lines in told.items() if (bad := [x for x in lines if not COMMAND.match(x)])} == {}

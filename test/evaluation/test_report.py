import json
from pathlib import Path

import pytest

from lsm_ros.errors import InputError, OutputError
from lsm_ros.evaluation import report

ROWS = [{"from": 0.0, "to": 0.1, "pairs": 7, "rotation_deg_median": 9.0, "auc30": 0.25, "auc30_alone": 0.125},
        {"from": 0.8, "to": None, "pairs": 2, "rotation_deg_median": 1.0, "translation_deg_median": 4.0, "auc30": 1.0}]
LINES = [
    {"set": "worlds", "intrinsics": False, "windows": 8, "auc30": 0.585, "absrel": 0.0771, "scale_err_median": 0.082,
     "miou": 0.566, "miou_lsm8": 0.793, "by_overlap": ROWS[:1], "by_baseline": ROWS},
    {"set": "worlds: network alone", "intrinsics": False, "windows": 8, "auc30": 0.322, "absrel": 0.08},
    {"set": "worlds", "intrinsics": True, "windows": 8, "auc30": 0.6, "absrel": 0.07},
    {"set": "worlds: network alone", "intrinsics": True, "windows": 8, "auc30": 0.4, "absrel": 0.07},
    {"set": "worlds: SIFT", "intrinsics": True, "windows": 8, "auc30": 0.416},
    {"set": "rectangles, single views", "intrinsics": False, "box_score": 0.669, "box_class_score": 1.0},
    {"set": "words: all never trained", "intrinsics": False, "miou": 0.25, "miou_kept": 0.5},
]


def test_table_of_all_figures():
    head, _, first, *_, last = report.markdown(LINES[:-1]).splitlines()
    assert head == "| set | K | windows | @30 | AbsRel | scale | mIoU | mIoU LSM-8 | boxes | by class |"
    assert first == "| worlds | - | 8 | 0.585 | 0.077 | 0.082 | 0.566 | 0.793 |  |  |"
    assert last == "| rectangles, single views | - |  |  |  |  |  |  | 0.669 | 1.000 |"


def test_table_by_distance():
    _, _, overlap, near, far = report.distance_markdown(LINES).splitlines()
    assert overlap == "| worlds | - | % seen by both: 0 to 10 | 7 | 9.000 |  | 0.250 | 0.125 |"
    assert near.startswith("| worlds | - | baseline / depth: 0 to 0.1 |")
    assert far == "| worlds | - | baseline / depth: over 0.8 | 2 | 1.000 | 4.000 | 1.000 |  |"
    assert report.distance_markdown(LINES[1:]) == ""


def test_short_table():
    assert report.summary(LINES).splitlines() == [
        "|  | AUC@30 whole / alone | SIFT, K known | AbsRel | metric scale | labels |",
        "| --- | --- | --- | --- | --- | --- |",
        "| worlds | .58 / .32 | .42 | .077 | 8 % | mIoU .57, LSM's 8 .79 |",
        "| rectangles, single views |  |  |  |  | boxes .67, by class 1.00 |",
        "| words: all never trained |  |  |  |  | mIoU .25 (50 % left) |"]


def test_titles():
    assert report.title("hololens_dvmvs_000, 4 views 12 apart") == "HoloLens walk, 4 views, 12 frames apart"
    assert report.title("rendered home, 4 views") == "rendered home, 4 views"
    assert report.title("words: as shipped") == "words: as shipped"


def test_block_of_a_page(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- scoreboard -->\nold\n<!-- /scoreboard -->\nafter\n")
    for text in ("| new |", "| newer |"):
        report.rewrite_block(page, text)
        assert page.read_text() == f"before\n<!-- scoreboard -->\n{text}\n<!-- /scoreboard -->\nafter\n"
    page.write_text("<!-- /scoreboard --> <!-- scoreboard -->")
    with pytest.raises(InputError, match="README.md has no block"):
        report.rewrite_block(page, "")
    with pytest.raises(InputError, match="nowhere.md"):
        report.rewrite_block(tmp_path / "nowhere.md", "")


def test_the_readme_has_the_block():
    readme = Path(__file__).parents[2] / "README.md"
    if not readme.exists():
        pytest.skip("no README.md beside the tests")
    assert readme.read_text().count(report.BEGIN) == readme.read_text().count(report.END) == 1


def test_keys_of_a_folder():
    """What other programs read stands at the top, whether or not it was measured."""
    result = report.folder_json([LINES[0] | {"auc5": 0.1}, LINES[1], LINES[4]])
    assert list(result) == [*report.FOLDER_KEYS, "by_overlap", "more"]
    assert result["auc5"] == 0.1 and result["windows"] == 8 and result["box_score"] is None
    assert result["by_overlap"] == ROWS[:1] and result["more"]["by_baseline"] == ROWS
    assert result["more"]["network_alone"]["auc30"] == 0.322 and result["more"]["sift"]["auc30"] == 0.416
    assert json.loads(json.dumps(result)) == result


def test_scores_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="no_folder"):
        report.write_json(tmp_path / "no_folder" / "out.json", LINES)

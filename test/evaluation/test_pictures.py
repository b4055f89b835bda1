from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lsm_ros.contracts import Matches
from lsm_ros.data.pictures import label_picture
from lsm_ros.errors import OutputError
from lsm_ros.evaluation import pictures
from lsm_ros.evaluation.datasets import FolderWindows
from lsm_ros.evaluation.scores import score_window
from lsm_ros.labels import LabelSet


def test_matched_points_have_one_colour_in_both_views():
    grey = np.full((60, 80, 3), 128, np.uint8)
    matches = Matches(a=np.array([0, 1, 1]), b=np.array([1, 0, 2]), confidence=np.ones(3, np.float32),
                      shares_a=np.array([[0.2, 0.3], [0.5, 0.5], [0.9, 0.9]], np.float32),
                      shares_b=np.array([[0.6, 0.7], [0.8, 0.1], [0.1, 0.9]], np.float32))
    first, second, third = (pictures.with_matches(grey, matches, view) for view in range(3))
    color = first[18, 16]
    assert color.tolist() != [128] * 3 and second[42, 48].tolist() == color.tolist()
    assert first[6, 64].tolist() == second[30, 40].tolist() not in ([128] * 3, color.tolist())
    assert (third == grey).all() and (second[54, 72] == 128).all()             # 1 and 2 do not see each other's first
    assert pictures.with_matches(grey, None, 0) is grey


@pytest.fixture
def example(folder, truth_predictor):
    predictor, truth = truth_predictor(folder, 1.25), FolderWindows(folder, 3, 1)[0]
    prediction = predictor(truth.window)
    return predictor.labels, pictures.Example("set", "median", truth, prediction,
                                              score_window(prediction, truth, predictor.labels))


def test_panels_of_a_view(example):
    labels, example = example
    images, captions = zip(*pictures.view_panels(example, 1, labels), strict=True)
    assert captions[0] == "rotation 0.0°, translation 0° wrong" and captions[1] == "depth, AbsRel 0.000, scale 1.25"
    assert captions[2].startswith("true depth, ") and captions[3:] == ("labels, 100 % right", "true labels")
    assert {image.shape for image in images} == {(60, 80, 3)}
    assert np.abs(images[1].astype(int) - images[2]).mean() < 60         # the same depth, but for its resolution


def test_a_view_without_true_depth_shows_the_predicted_one(example):
    labels, example = example
    example.truth.depth[1] = np.nan
    _, (depth, _), (_, caption), *_ = pictures.view_panels(example, 1, labels)
    assert depth.std() > 30 and caption == "no true depth"


def test_true_labels_are_shown_in_the_words_that_were_asked_for(example):
    shipped, example = example
    few, image = LabelSet.from_entries([{"name": "chair"}, {"name": "table"}]), np.full((60, 80, 3), 128, np.uint8)
    example.truth.window.keyframes[1].frame.image[:] = image
    seen = {}
    for name in ("chair", "table", "wall"):
        example.truth.labels[1] = shipped.index(name)
        seen[name], caption = pictures.view_panels(example, 1, few)[-1]
        assert caption == "true labels"
    for index, name in enumerate(few.names):
        assert np.array_equal(seen[name], label_picture(image, np.full((60, 80), index, np.uint16), few))
        assert (seen["wall"][0, 0] != seen[name][0, 0]).any()


def test_montage_has_one_width_with_and_without_true_labels(example):
    labels, example = example
    bare = replace(example, truth=replace(example.truth, labels=None), score=replace(example.score, confusion=None))
    alone, both = pictures.montage([bare], labels), pictures.montage([example, bare], labels)
    assert both.shape[1] == alone.shape[1] and both.shape[0] > 1.7 * alone.shape[0]


def test_a_picture_is_kept_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    pictures.save(tmp_path / "new/noise.jpg", noise, 40_000)
    assert (tmp_path / "new/noise.jpg").stat().st_size <= 40_000
    assert Image.open(tmp_path / "new/noise.jpg").size == (300, 200)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="noise.png"):
        pictures.save(tmp_path / "file/noise.png", noise)

import json

import cv2
import numpy as np
import pytest

from lsm_ros.evaluation import words
from lsm_ros.evaluation.datasets import FolderWindows
from lsm_ros.evaluation.metrics import ClassBox
from lsm_ros.labels import LabelSet, embed, noun_embeddings


@pytest.fixture(scope="module")
def shipped() -> LabelSet:
    return LabelSet.load()


def test_words_are_what_they_are_said_to_be(shipped):
    trained = {word for name, others in words.synonyms().items() for word in (name, *others)}
    never = [*words.UNSEEN.values(), *words.BROADER]
    assert not trained & set(never), "a word that is trained tells nothing about words that are not"
    assert set(never) <= noun_embeddings().keys()
    assert set(words.UNSEEN) == set(shipped.names) == set(words.synonyms())
    merged = [name for names in words.BROADER.values() for name in names]
    assert set(merged) <= set(shipped.names) and len(merged) == len(set(merged))


def test_a_network_that_says_the_shipped_labels(folder, truth_predictor):
    """The truth as shipped scores all; in other words it scores what the text space makes of them."""
    predictor, windows = truth_predictor(folder), FolderWindows(folder, 2, 2)
    lines = {line["set"]: line for line in
             words.score_words(predictor, ((truth, predictor(truth.window)) for truth in windows))}
    assert lines["words: as shipped"]["miou"] == lines["words: as shipped"]["miou_kept"] == pytest.approx(1)
    assert lines["words: names alone"]["miou"] > 0.8
    single, everything = lines["words: one never trained, the rest as shipped"], lines["words: all never trained"]
    assert 0 < single["miou"] < 1 and 0 < everything["miou"] < lines["words: names alone"]["miou"]
    assert everything["by_word"]["television set"]["shipped"] == pytest.approx(1)
    assert set(lines["words: broader, never trained"]["by_word"]) <= set(words.BROADER)
    assert "box_score" not in single


def test_one_word_at_a_time_is_what_exchanging_it_gives(shipped):
    rng = np.random.default_rng(0)
    semantics = rng.normal(size=(6, 50, 64)).astype(np.float32)
    single = words.OneAtATime("", shipped)
    chosen = single.chosen(semantics)
    for c in (0, shipped.index("sofa")):
        embeddings = shipped.embeddings.copy()
        embeddings[c] = embed([words.UNSEEN[shipped.names[c]]])
        np.testing.assert_array_equal(chosen[..., c], (semantics @ embeddings.T).argmax(-1) == c)


def test_pixels_without_a_class_do_not_count(shipped):
    sofa = shipped.index("sofa")
    semantics, classes = shipped.embeddings[[sofa, sofa, 0]], np.array([sofa, 255, 0], np.uint16)
    for vocabulary in words.vocabularies(shipped):
        vocabulary.add(semantics, classes)
        assert vocabulary.confusion_shipped.counts.sum() == 2
    assert np.nanmin(vocabulary.iou_shipped) == 1             # of the broader words, `seat` alone is shown
    assert np.isfinite(vocabulary.iou).sum() == 1


def test_broader_boxes_leave_out_what_keeps_its_name(shipped):
    broader = words.vocabularies(shipped)[-1]
    semantics = np.broadcast_to(embed(["seat"]), (4, 4, 64))
    broader.add_boxes(semantics, [ClassBox("sofa", (0, 0, 1, 1)), ClassBox("wall", (0, 0, 1, 1)),
                                  ClassBox("cabinet", (0, 0, 1, 1))])
    assert broader.boxes == ["sofa", "cabinet"] and broader.shares == [1, 0]


def test_boxes_in_other_words(folder, truth_predictor, shipped):
    label = np.full((60, 80), shipped.index("television"), np.uint8)
    cv2.imwrite(str(folder / "label/000002.png"), label)
    boxes = folder.parent / "boxes/boxes.json"
    boxes.parent.mkdir()
    boxes.write_text(json.dumps({"sequence/color/000002.jpg": [{"cls": "tv", "box": [0, 0, 0.5, 1]}]}))
    lines = words.score_words(truth_predictor(folder), boxes=boxes)
    assert len(lines) == 6 and all(line["boxes_kept"] == line["box_score"] == 1 for line in lines[:5])
    assert "miou" not in lines[0] and lines[0]["by_word"] == {}

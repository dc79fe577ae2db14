import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders.encoder import SentenceEncoder, load_encoder
from encoders.hashing import HashingEncoder
from encoders.sentence_transformer import SentenceTransformerEncoder, find_model, fingerprint_model
from encoders.text import clean_text


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformerEncoder:
    return SentenceTransformerEncoder("minilm", dtype="float32")


SENTENCES = [
    "The frog sat in the well.",
    "A toad was in the fountain.",
    "The tax was repealed in 1846.",
    "",
    "a\ud800b\0c",
]


def test_meaning_decides_nearness(minilm: SentenceTransformerEncoder) -> None:
    concepts = minilm.encode(SENTENCES)
    assert concepts.shape == (5, minilm.dim) == (5, 384) and concepts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(concepts, axis=1), 1, rtol=1e-5)
    assert concepts[0] @ concepts[1] > concepts[0] @ concepts[2] + 0.2


def test_order_and_neighbours_do_not_matter(minilm: SentenceTransformerEncoder) -> None:
    sentences = [*SENTENCES, "word " * 300]
    together = minilm.encode(sentences)
    alone = np.concatenate([minilm.encode([sentence]) for sentence in sentences])
    np.testing.assert_allclose(together, alone, atol=2e-6)
    assert minilm.encode([]).shape == (0, 384)


def test_bfloat16_is_close_to_float32(minilm: SentenceTransformerEncoder) -> None:
    fast = SentenceTransformerEncoder("minilm", dtype="bfloat16")
    cosine = (fast.encode(SENTENCES) * minilm.encode(SENTENCES)).sum(axis=1)
    assert fast.encode(SENTENCES).dtype == np.float32
    assert (cosine > 0.999).all()


def test_the_fingerprint_is_of_the_content(minilm: SentenceTransformerEncoder, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(find_model("minilm"), tmp_path / "elsewhere"))
    assert fingerprint_model(copy) == minilm.fingerprint
    (copy / "README.md").write_text("other words")
    assert fingerprint_model(copy) == minilm.fingerprint
    pooling = copy / "1_Pooling" / "config.json"
    pooling.write_text(
        pooling.read_text().replace('"pooling_mode_mean_tokens": true', '"pooling_mode_mean_tokens": false')
    )
    assert fingerprint_model(copy) != minilm.fingerprint


def test_a_local_folder_is_a_name(minilm: SentenceTransformerEncoder) -> None:
    encoder: SentenceEncoder = load_encoder(str(find_model("minilm")))
    assert encoder.fingerprint == minilm.fingerprint == load_encoder().fingerprint


def test_it_crosses_to_another_process_without_its_weights(minilm: SentenceTransformerEncoder) -> None:
    concepts = minilm.encode(SENTENCES)
    sent = pickle.dumps(minilm)
    assert len(sent) < 10_000
    again = pickle.loads(sent)
    assert again.fingerprint == minilm.fingerprint
    np.testing.assert_array_equal(again.encode(SENTENCES), concepts)


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no modules\.json"):
        load_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no loadable sentence-transformers model"):
        load_encoder(str(tmp_path)).encode(["Yes."])
    with pytest.raises(FileNotFoundError, match="check the spelling"):
        load_encoder("a/b/c")
    with pytest.raises(ValueError, match=r'"hashing:wide".* not a width'):
        load_encoder("hashing:wide")
    with pytest.raises(ValueError, match="truncate_dim must be at least 1"):
        SentenceTransformerEncoder(truncate_dim=0)
    for options in ("dim=3", "truncate_dim=three", "prompt", "prompt=a&b"):
        with pytest.raises(ValueError, match=r'behind "\?" may stand prompt=TEXT'):
            load_encoder(f"minilm?{options}")
    with pytest.raises(ValueError, match="truncate_dim is 400, the model is 384 wide"):
        _ = load_encoder("minilm?truncate_dim=400").dim


def test_prompt_and_width_are_part_of_the_name_and_of_the_space(minilm: SentenceTransformerEncoder) -> None:
    encoder = SentenceTransformerEncoder("minilm", dtype="float32", prompt="query: a & b = ", truncate_dim=20)
    concepts = encoder.encode(SENTENCES)
    assert concepts.shape == (len(SENTENCES), encoder.dim) == (len(SENTENCES), 20)
    plain = minilm.encode([f"query: a & b = {sentence}" for sentence in SENTENCES])
    np.testing.assert_allclose(concepts, plain[:, :20], atol=1e-6)
    again = load_encoder(encoder.name)
    assert again.name == encoder.name and again.fingerprint == encoder.fingerprint != minilm.fingerprint
    fingerprints = {load_encoder(f"minilm{options}").fingerprint for options in ("", "?prompt=a", "?truncate_dim=9")}
    assert len(fingerprints) == 3


def test_an_unreachable_hub_fails_at_once(tmp_path: Path) -> None:
    """In a process of its own: the hub's library reads its settings when it is imported."""
    code = "from encoders.encoder import load_encoder; load_encoder('nobody/nothing')"
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert 'FileNotFoundError: no encoder "nobody/nothing": ' in done.stderr
    assert "cannot be reached" in done.stderr.splitlines()[-1]


@given(st.lists(st.text(st.characters(codec=None, exclude_categories=())), max_size=5), st.integers(2, 20))
def test_hashing_gives_unit_vectors_that_depend_on_the_sentence_alone(sentences: list[str], dim: int) -> None:
    encoder = HashingEncoder(dim)
    concepts = encoder.encode(sentences)
    assert concepts.shape == (len(sentences), dim) and concepts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(concepts, axis=1), 1, rtol=1e-4)
    for sentence, concept in zip(sentences, concepts, strict=True):
        np.testing.assert_array_equal(encoder.encode([sentence])[0], concept)


def test_hashing_is_the_same_everywhere() -> None:
    concept = load_encoder("hashing:4").encode(["The frog."])[0]
    np.testing.assert_allclose(concept, EXPECTED, atol=1e-6)
    assert load_encoder("hashing:4").fingerprint == "hashing-1-4"


EXPECTED = [-0.716258, 0.134298, 0.134298, -0.671492]


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_cleaning_keeps_length_and_meaning(text: str) -> None:
    cleaned = clean_text(text)
    assert len(cleaned) == len(text) and "\0" not in cleaned
    cleaned.encode()
    assert clean_text(cleaned) == cleaned


@pytest.mark.parametrize(
    ("bad", "message"), [("one", "got one string"), (["a", None], "sentence 1 is a NoneType"), ([b"a"], "bytes")]
)
def test_what_is_no_sentence_is_refused(bad: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        HashingEncoder().encode(bad)

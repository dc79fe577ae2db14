"""How well a decoder writes the sentences of held-out concepts."""

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor

from data.loader import shuffled
from data.store import ConceptStore, check_encoder
from decoders.cycle import CycleDecoder
from decoders.decoder import ConceptDecoder
from decoders.module import SentenceBatch, SentenceDataset
from decoders.names import lowercase_words, names_kept
from decoders.prefix import PrefixDecoder
from decoders.retrieval import RetrievalDecoder
from decoders.scores import bleu, bootstrap
from encoders.encoder import SentenceEncoder

SHORT = 12  # words of the longest sentence that is to be written exactly
Step = TypeVar("Step")


def evaluate_decoder(
    decoder: PrefixDecoder,
    encoder: SentenceEncoder,
    store: ConceptStore,
    *,
    split: str = "test",
    num_sentences: int = 300,
    min_words: int = 5,
    max_words: int = 40,
    batch_size: int = 32,
    seed: int = 0,
    context_sentences: int = 2,
    before: int = 0,
    after: int = 0,
    cycle: Mapping[str, Any] | None = None,
    **decoding: Any,
) -> dict[str, Any]:
    """Measure a decoder on held-out sentences, beside the nearest training sentence and a random one.

    The decoder reads the last tokens of the true sentences before. Returns a dict of plain values: `num_sentences`,
    `num_tokens`; under `rows`, for "decoder", "nearest training sentence" and "random training sentence", `bleu` and
    `cosine` (of the text, encoded again, with the given concept) and `exact` (share of the sentences of up to 12 words
    that are written to the letter; left out where there are none), each as [value, low, high] with a 95 % bootstrap
    interval over sentences; in the same form `nll`, nats a token with the "true", a "shuffled" and "no" concept, and
    `nats_carried` by the true concept against no and against a shuffled one; `names`, [share, number] of the proper
    names in a sentence and in its context that the decoder wrote; `sentences_per_second` of the rows that are written;
    `examples`, each [sentence, decoded].

    Args:
        decoder: decoder to measure.
        encoder: encoder of the store.
        store: store with the sentences.
        split: which documents.
        num_sentences: how many sentences, drawn with the seed.
        min_words: shortest sentence that counts, in words.
        max_words: longest sentence that counts, in words.
        batch_size: sentences decoded together.
        seed: of the draw, the shuffling and the bootstrap.
        context_sentences: sentences before that are given; the decoder keeps its last `max_context_tokens` of them.
        before: concepts of sentences before that are given, as many as the decoder reads.
        after: concepts of sentences behind that are given, as many as the decoder reads.
        cycle: options of CycleDecoder, for one more row, "decoder, best of" its candidates; none leaves it out.
        decoding: options of `decoder.decode`.

    Raises:
        ValueError: the decoder or the store belongs to another encoder, or no sentence of that length is there.
    """
    check_encoder(decoder.encoder or "unknown", encoder.fingerprint, "the decoder")
    check_encoder(store.encoder, encoder.fingerprint, "the store")
    if num_sentences < 2:
        raise ValueError(f"num_sentences must be at least 2, found {num_sentences}")
    pairs = held_out_pairs(
        store,
        split,
        num_sentences=num_sentences,
        min_words=min_words,
        max_words=max_words,
        seed=seed,
        context_sentences=context_sentences,
        before=before,
        after=after,
    )
    nearest = RetrievalDecoder.from_store(store)
    generator = Generator().manual_seed(seed)
    draw = torch.randint(len(nearest.sentences), (len(pairs),), generator=generator).tolist()
    decoders: dict[str, ConceptDecoder] = {"decoder": decoder}
    if cycle is not None:
        checked = CycleDecoder(decoder, encoder, **cycle)
        decoders[f"decoder, best of {len(checked.temperatures)}"] = checked
    texts, speed = {}, {}
    for name, chosen in decoders.items():
        start = time.perf_counter()
        texts[name] = decode_all(chosen, pairs, batch_size, generator, **decoding)
        speed[name] = len(pairs) / (time.perf_counter() - start)
    texts["nearest training sentence"] = nearest.decode(pairs.concepts)
    texts["random training sentence"] = [nearest.sentences[i] for i in draw]
    random = np.random.default_rng(seed)
    rows = {name: score_texts(text, pairs, encoder, random) for name, text in texts.items()}
    small = lowercase_words([*nearest.sentences, *pairs.sentences, *pairs.context])
    kept, num_names = names_kept(texts["decoder"], pairs.sentences, pairs.context, small)
    examples = [[sentence, text] for sentence, text in zip(pairs.sentences, texts["decoder"], strict=True)]
    return {
        "num_sentences": len(pairs),
        "rows": rows,
        **score_nll(decoder, pairs, batch_size, random),
        "names": [kept / max(num_names, 1), num_names],
        "sentences_per_second": speed,
        "examples": examples,
    }


def held_out_pairs(
    store: ConceptStore,
    split: str,
    *,
    num_sentences: int,
    min_words: int,
    max_words: int,
    seed: int,
    context_sentences: int = 2,
    before: int = 0,
    after: int = 0,
) -> SentenceBatch:
    """Return sentences of a split and of a length in words, drawn with a seed, with what is around them."""
    dataset = SentenceDataset(store, store.split(split), context_sentences, before=before, after=after)
    order = shuffled(len(dataset), seed, 0).tolist()
    fitting = (i for i in order if min_words <= len(dataset.sentence(i).split()) <= max_words)
    chosen = list(islice(fitting, num_sentences))
    if len(chosen) < 2:
        raise ValueError(
            f"the store {store.path} has {len(chosen)} {split} sentences of {min_words} to {max_words} words; "
            "encode more documents"
        )
    return dataset.batch(chosen)


def decode_all(
    decoder: ConceptDecoder, pairs: SentenceBatch, batch_size: int, generator: Generator, **decoding: Any
) -> list[str]:
    """Return the decoded sentence of every concept, in order."""
    texts: list[str] = []
    for i in shown(range(0, len(pairs), batch_size), "decoding"):
        part = slice(i, i + batch_size)
        around = neighbours_of(pairs, part)
        texts += decoder.decode(pairs.concepts[part], pairs.context[part], generator=generator, **around, **decoding)
    return texts


def neighbours_of(pairs: SentenceBatch, part: slice) -> dict[str, Any]:
    """Return the concepts around some sentences as a decoder's options, none where there are none."""
    if pairs.neighbours is None or pairs.near is None:
        return {}
    return {"neighbours": pairs.neighbours[part], "near": pairs.near[part]}


def shown(steps: Sequence[Step], what: str) -> Iterable[Step]:
    """Yield steps with a bar on stderr."""
    from rich.console import Console
    from rich.progress import track

    return track(steps, what, console=Console(stderr=True), transient=True)


def score_texts(
    texts: Sequence[str], pairs: SentenceBatch, encoder: SentenceEncoder, random: np.random.Generator
) -> dict[str, list[float]]:
    """Return BLEU against the true sentences, the cosine of the texts, encoded again, and the share of exact ones."""
    again = torch.from_numpy(encoder.encode(texts))
    cosine = torch.nn.functional.cosine_similarity(again, pairs.concepts.cpu().float(), dim=-1).numpy()
    found = {
        "bleu": bleu(texts, pairs.sentences, random),
        "cosine": bootstrap(cosine, np.ones(len(cosine)), random),
    }
    short = [
        text == " ".join(sentence.split())
        for text, sentence in zip(texts, pairs.sentences, strict=True)
        if len(sentence.split()) <= SHORT
    ]
    return found | ({"exact": bootstrap(np.array(short, float), np.ones(len(short)), random)} if short else {})


def score_nll(
    decoder: PrefixDecoder, pairs: SentenceBatch, batch_size: int, random: np.random.Generator
) -> dict[str, Any]:
    """Return nats a token with the true, a shuffled and no concept, and their differences."""
    shuffled_concepts = pairs.concepts[torch.from_numpy(_derangement(len(pairs), random))]
    given: dict[str, Tensor | None] = {"true": pairs.concepts, "shuffled": shuffled_concepts, "no": None}
    total, num_tokens = {}, np.zeros(len(pairs))
    for name, concepts in given.items():
        parts = [slice(i, i + batch_size) for i in range(0, len(pairs), batch_size)]
        scores = [
            decoder.nll(
                None if concepts is None else concepts[p],
                pairs.sentences[p],
                pairs.context[p],
                **neighbours_of(pairs, p),
            )
            for p in shown(parts, f"scoring with {name} concept")
        ]
        total[name] = torch.cat([score.total for score in scores]).cpu().double().numpy()
        num_tokens = torch.cat([score.num_tokens for score in scores]).cpu().double().numpy()
    return {
        "num_tokens": int(num_tokens.sum()),
        "nll": {name: bootstrap(value, num_tokens, random) for name, value in total.items()},
        "nats_carried": {
            f"against {name} concept": bootstrap(total[name] - total["true"], num_tokens, random)
            for name in ("no", "shuffled")
        },
    }


def _derangement(num: int, random: np.random.Generator) -> np.ndarray:
    """Return a seeded permutation of range(num) that moves every item."""
    order = random.permutation(num)
    shift = np.empty(num, dtype=np.int64)
    shift[order] = np.roll(order, 1)
    return shift

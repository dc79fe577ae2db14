"""Sentences a second of greedy decoding: our search beside transformers' generate, as decoding was before it.

Both write the same held-out sentences with the same rules, in turns, in one process; the first turn is not counted.
"""

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessorList

from data.store import ConceptStore
from decoders.evaluation import held_out_pairs
from decoders.loading import load_decoder
from decoders.module import SentenceBatch
from decoders.packed import PackedLinear
from decoders.prefix import PrefixDecoder
from decoders.reading import read, soft_tokens

Decode = Callable[[SentenceBatch], list[str]]


def unpacked(decoder: PrefixDecoder) -> PrefixDecoder:
    """Return the decoder with plain linear layers."""
    for layer in decoder.llm.base.modules():
        if isinstance(layer, PackedLinear):
            layer.__class__ = nn.Linear
    return decoder


@torch.no_grad()
def by_transformers(decoder: PrefixDecoder, pairs: SentenceBatch) -> list[str]:
    """Return what transformers' greedy search writes, with the rules of `PrefixDecoder.decode`."""
    llm, adapter = decoder.llm, decoder.adapter
    with llm.autocast():
        reading = read(adapter, pairs.concepts, None, None, None, None)
        prompt = decoder.lay_out(pairs.context, [[] for _ in pairs.sentences], pad_left=True)
        bias = adapter.word_bias(reading.x)

        def raise_words(ids: Tensor, scores: Tensor) -> Tensor:
            scores = scores.float().index_add(1, adapter.words.tokens, bias)
            if not ids.shape[1]:
                scores[:, llm.end] = -torch.inf
            return scores

        config = GenerationConfig(
            eos_token_id=llm.end, pad_token_id=llm.end, use_cache=True, max_new_tokens=64, no_repeat_ngram_size=3
        )
        ids = llm.model.generate(
            inputs_embeds=llm._embed(prompt, soft_tokens(adapter, reading, llm.embedding.weight)),
            attention_mask=prompt.mask.long(),
            generation_config=config,
            logits_processor=LogitsProcessorList([raise_words]),
        )
    return llm.texts(ids.tolist())


def part(pairs: SentenceBatch, start: int, size: int) -> SentenceBatch:
    """Return some of the sentences."""
    some = slice(start, start + size)
    return SentenceBatch(pairs.concepts[some], pairs.sentences[some], pairs.context[some])


def measure(ways: dict[str, Decode], batches: list[SentenceBatch]) -> dict[str, tuple[float, float]]:
    """Return the median sentences a second of wall clock and of CPU time; the ways take turns, batch after batch."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for batch in batches:
        for name, decode in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            decode(batch)
            seconds = time.perf_counter() - wall, time.process_time() - cpu
            found[name].append((len(batch) / seconds[0], len(batch) / seconds[1]))
    return {
        name: (statistics.median(w for w, _ in speeds[1:]), statistics.median(c for _, c in speeds[1:]))
        for name, speeds in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decoder", type=Path, default=Path("artifacts/demo/decoder/best.ckpt"))
    parser.add_argument("--store", type=Path, default=Path("artifacts/bake/grimm"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=6, help="the first is not counted")
    options = parser.parse_args()
    if options.batches < 2:
        raise SystemExit("--batches must be at least 2: the first is not counted")
    before, after = unpacked(load_decoder(options.decoder)), load_decoder(options.decoder)
    num = options.batch_size * options.batches
    store = ConceptStore.open(options.store)
    pairs = held_out_pairs(store, "test", num_sentences=num, min_words=5, max_words=40, seed=0, context_sentences=1)
    batches = [part(pairs, i, options.batch_size) for i in range(0, len(pairs), options.batch_size)]
    ways: dict[str, Decode] = {
        "transformers": lambda batch: by_transformers(before, batch),
        "search, plain layers": lambda batch: before.decode(batch.concepts, batch.context),
        "search": lambda batch: after.decode(batch.concepts, batch.context),
    }
    same = sum(a == b for a, b in zip(ways["transformers"](batches[0]), ways["search"](batches[0]), strict=True))
    print(f"{same} of {len(batches[0])} texts are equal", file=sys.stderr)
    writer = csv.writer(sys.stdout)
    writer.writerow(["threads", "batch", "way", "sentences/s wall", "sentences per CPU second"])
    for threads in options.threads:
        torch.set_num_threads(threads)
        for name, (wall, cpu) in measure(ways, batches).items():
            writer.writerow([threads, options.batch_size, name, f"{wall:.2f}", f"{cpu:.2f}"])
            sys.stdout.flush()


if __name__ == "__main__":
    main()

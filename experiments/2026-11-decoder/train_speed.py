"""Training speed of the decoder against the naive way, both in one process, by turns.

    python experiments/2026-11-decoder/train_speed.py --store STORE --threads 1 2 --out train_speed.csv

A token is one that the language model reads: context, soft tokens, sentence and end; padding does not count. Both ways
see the same sentences, context and soft tokens, and train the same LoRA (rank 16, all linear layers) and adapter.
"naive" is transformers and peft as they come: float32 weights under bfloat16 autocast, rows in random order padded to
the longest, labels over whole rows, logits of every place.
"""

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from data.store import ConceptStore
from decoders.llm import load_llm, resolve_llm
from decoders.module import SentenceBatch, SentenceDataset
from decoders.prefix import PrefixDecoder

Step = Callable[[SentenceBatch], None]


def draw(store: ConceptStore, batch_size: int, num: int) -> tuple[list[SentenceBatch], list[SentenceBatch], Any]:
    """Return batches of about equally long sentences, batches in random order, and a sample to fit the adapter on."""
    dataset = SentenceDataset(store, store.split("train"), context_sentences=1)
    draws = torch.Generator().manual_seed(0)
    order = torch.randperm(len(dataset), generator=draws).tolist()
    fitting = [i for i in order if 5 <= len(dataset.sentence(i).split()) <= 40]
    by_length = sorted(fitting[: batch_size * 100], key=lambda i: len(dataset.sentence(i)))
    cut = [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    chosen = [cut[i] for i in torch.randperm(len(cut), generator=draws).tolist()[:num]]
    flat = [i for part in chosen for i in part]
    mixed = [flat[i] for i in torch.randperm(len(flat), generator=draws).tolist()]  # the same sentences, by chance
    parts = [mixed[i : i + batch_size] for i in range(0, len(mixed), batch_size)]
    return [dataset.batch(p) for p in chosen], [dataset.batch(p) for p in parts], dataset.batch(fitting[:4000])


def stepper(loss: Callable[[SentenceBatch], torch.Tensor], learning: list[torch.nn.Parameter]) -> Step:
    """Return a training step: loss, gradient, clipping, AdamW."""
    optimizer = torch.optim.AdamW(learning, lr=1e-4)

    def step(batch: SentenceBatch) -> None:
        optimizer.zero_grad()
        loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()

    return step


def ours(decoder: PrefixDecoder) -> Step:
    """Return the step of this project, with context in every batch, so that both read the same."""
    draws = torch.Generator().manual_seed(0)
    decoder.context_drop = 0.0

    def loss(batch: SentenceBatch) -> torch.Tensor:
        return decoder.loss(batch.concepts, batch.sentences, batch.context, draws)["loss"]

    return stepper(loss, [*decoder.adapter_parameters(), *decoder.lora_parameters()])


def naive(decoder: PrefixDecoder) -> Step:
    """Return the step of transformers and peft as they come; the decoder lends its tokeniser, layout and sizes."""
    base, _ = load_llm(resolve_llm("smollm2"))
    model = get_peft_model(base.float(), LoraConfig(r=16, lora_alpha=16, target_modules="all-linear"))
    embedding, adapter = model.get_input_embeddings(), PrefixDecoder(**decoder.arguments).adapter
    adapter.load_state_dict(decoder.adapter.state_dict())

    def loss(batch: SentenceBatch) -> torch.Tensor:
        prompt = rows(decoder, batch)
        with torch.autocast("cpu", torch.bfloat16):
            x = adapter.normalize(batch.concepts)
            soft = adapter(x, x.new_zeros(len(x)), embedding.weight)
            embedded = embedding(prompt.ids).masked_scatter(prompt.soft[..., None], soft.float())
            labels = prompt.ids.masked_fill(~prompt.target, -100)
            return model(inputs_embeds=embedded, attention_mask=prompt.mask.long(), labels=labels).loss

    learning = [p for p in model.parameters() if p.requires_grad] + list(adapter.parameters())
    return stepper(loss, learning)


def rows(decoder: PrefixDecoder, batch: SentenceBatch) -> Any:
    """Return the rows of a batch."""
    ids = [[*ids, decoder.llm.end] for ids in decoder.llm.tokenize(batch.sentences)]
    return decoder.lay_out(batch.context, ids)


def timed(step: Step, batch: SentenceBatch) -> tuple[float, float]:
    """Return the seconds of a step, by the clock and of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    step(batch)
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(decoder: PrefixDecoder, batch_size: int, rounds: int, store: ConceptStore) -> Iterator[dict[str, Any]]:
    """Yield a row for each way."""
    even, mixed, sample = draw(store, batch_size, rounds + 1)
    if not decoder.fitted:
        decoder.fit(sample.concepts, sample.sentences)
    ways = {"ours": (ours(decoder), even), "naive": (naive(decoder), mixed)}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for i in range(rounds + 1):  # the first is not counted
        for name, (step, batches) in ways.items():
            seconds[name].append(timed(step, batches[i]))
    for name, (_, batches) in ways.items():
        prompts = [rows(decoder, batch) for batch in batches[1:]]
        tokens = [int(prompt.mask.sum()) for prompt in prompts]
        wall, cpu = zip(*seconds[name][1:], strict=True)
        yield {
            "way": name,
            "threads": torch.get_num_threads(),
            "batch_size": batch_size,
            "tokens_per_second": round(median(n / s for n, s in zip(tokens, wall, strict=True)), 1),
            "tokens_per_cpu_second": round(median(n / s for n, s in zip(tokens, cpu, strict=True)), 1),
            "sentences_per_second": round(median(batch_size / s for s in wall), 2),
            "seconds_per_step": round(median(wall), 2),
            "padding": round(1 - sum(tokens) / sum(prompt.mask.numel() for prompt in prompts), 3),
            "rounds": rounds,
        }


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "train_speed.csv")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    store = ConceptStore.open(options.store)
    found: list[dict[str, Any]] = []
    for threads, batch_size in product(options.threads, options.batch_size):
        torch.set_num_threads(threads)
        decoder = PrefixDecoder(store.dim, store.encoder, store.encoder_name, lora_rank=16)
        found += measure(decoder, batch_size, options.rounds, store)
        print(*found[-2:], sep="\n", flush=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    main()

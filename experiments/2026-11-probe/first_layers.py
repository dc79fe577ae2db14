"""Write the first layers of a language model as an encoder: python first_layers.py LLM NUM_LAYERS OUT.

The folder is a sentence-transformers model that takes the mean of the last of these layers over the tokens: a real
transformer that nobody trained to embed sentences.
"""

import sys

import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer


def main(llm: str, num_layers: str, out: str) -> None:
    """Cut the model, save it with its tokenizer, and let sentence-transformers put a mean on top."""
    model = AutoModel.from_pretrained(llm, dtype=torch.float32, num_hidden_layers=int(num_layers))
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(llm).save_pretrained(out)
    SentenceTransformer(out, device="cpu").save_pretrained(out)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: first_layers.py LLM NUM_LAYERS OUT")
    main(*sys.argv[1:])

"""Draw documents of a store beside each other in the plane that they share: python plot.py STORE OUT DOCUMENT..."""

import sys

import numpy as np
from matplotlib.figure import Figure

from data.store import ConceptStore
from lcm.trajectory import fit_basis, plot_trajectory


def main(path: str, out: str, *numbers: str) -> None:
    store = ConceptStore.open(path)
    corpus = np.concatenate([store[i] for i in store.split("train")])
    basis = fit_basis(corpus, encoder=store.encoder)
    cloud = corpus[np.sort(np.random.default_rng(0).choice(len(corpus), min(3000, len(corpus)), replace=False))]
    documents = [int(number) for number in numbers]
    figure = Figure(figsize=(6.0 * len(documents), 4.8), layout="constrained")
    for ax, document in zip(figure.subplots(1, len(documents), squeeze=False)[0], documents, strict=True):
        sentences = store[document][store.levels(document) == 0]
        plot_trajectory(sentences, basis=basis, background=cloud, ax=ax, title=store.documents[document].title)
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("usage: plot.py STORE OUT DOCUMENT [DOCUMENT ...]")
    main(*sys.argv[1:])

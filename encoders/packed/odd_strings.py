"""Strings that tokenizers disagree about, built in code: what a faster one must pass before it is used."""

from collections.abc import Iterator
from random import Random

# Blocks of Unicode that are cleaned, split, folded or left alone by a rule of their own: first and last code point.
_BLOCKS = (
    (0x21, 0x7E),  # ASCII
    (0x00, 0x20),  # control characters
    (0x7F, 0xBF),
    (0xC0, 0x24F),  # Latin with accents
    (0x250, 0x2FF),  # phonetic, spacing modifiers
    (0x300, 0x36F),  # combining marks
    (0x370, 0x3FF),  # Greek
    (0x400, 0x52F),  # Cyrillic
    (0x530, 0x6FF),  # Armenian, Hebrew, Arabic
    (0x900, 0xDFF),  # scripts of India
    (0xE00, 0xEFF),  # Thai, Lao
    (0x1100, 0x11FF),  # Hangul, letter by letter
    (0x1E00, 0x1FFF),  # more accents, Greek with many
    (0x2000, 0x206F),  # spaces of all widths, dashes, quotes, marks of direction, joiners
    (0x2070, 0x23FF),  # digits above and below, currencies, arrows, mathematics
    (0x2460, 0x27BF),  # digits in circles, dingbats
    (0x3000, 0x30FF),  # CJK punctuation, Hiragana, Katakana
    (0x3200, 0x33FF),  # squared words
    (0x3400, 0x9FFF),  # CJK
    (0xAC00, 0xD7A3),  # Hangul
    (0xE000, 0xE0FF),  # private use
    (0xF900, 0xFAFF),  # CJK compatibility
    (0xFB00, 0xFEFF),  # ligatures, presentation forms, variation selectors, the byte order mark
    (0xFF00, 0xFFFD),  # full width, specials
    (0x10300, 0x10FFF),  # old scripts
    (0x1D400, 0x1D7FF),  # mathematical letters and digits
    (0x1F1E6, 0x1FAFF),  # flags, emoji
    (0x20000, 0x2FA1F),  # rare CJK
    (0xE0000, 0xE01EF),  # tags
    (0x10FFF0, 0x10FFFF),  # the last ones
)
_SPACES = (" ", " ", " ", " ", "", "  ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x85", "\xa0", "\xad", "\u200b", "\u200d")
_COMMON = "eeeeetttaaaooiinnssrrhhlldccuumfpgwybvkxjqzéßñö"
_PUNCTUATION = ".,.,.,;:?!-—–'’‘\"“”()[]{}@#$%&*_~`^+=<>|\\/§¿¡«»…"
# A string a line: control characters and special tokens; letters whose lower case or decomposition is longer or depends
# on their place; emoji of several parts; scripts without spaces; numbers, and what has marks inside.
_LISTED = (
    "\0\n\ufffd\n\ufeff\na\0b\n[CLS]\n[SEP] [MASK]\n[UNK]s\nx[PAD]y\n[sep]\n[ SEP ]\n<s>\n</s>\n##ing\nun##able"
    """
İstanbul ıI
STRASSE straße ẞ
ΟΔΟΣ Σ ΣΑΣ ὈΔΥΣΣΕΎΣ
ŉ ǰ ﬁ ﬃ ĳ
Å A\u030a \u212b
e\u0301\u0301\u0301 \u0301 a\u0345b
각 \u1100\u1161\u11a8 ㄱㅏㄱ
か\u3099 が
ﷺ ㍿ ㎏ ①
👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 1️⃣ #️⃣
☎︎ ☎️
א\u05b0ב\u05b7 مَرْحَبًا \u202eabc\u202c
नमस्ते ภาษาไทย
中文，和English混合。
ｆｕｌｌ　ｗｉｄｔｈ
3.14159 1,000,000 10⁻⁹ ½ ⅔ x²+y² ٣٤ ४२
U.S.A. don't rock’n’roll e-mail@ex.org
 """
)


def odd_strings(number: int = 2000) -> list[str]:
    """Returns that many strings, always the same: odd Unicode, long words, long texts, and plain made-up words."""
    random = Random(0)
    strings = ["", " ", *_LISTED.split("\n")]
    for letter in ("a", "é", "ß", "İ", "中", "か\u3099", "9", "-", "\u0301"):  # up to 100 a word are looked up
        strings += [letter * count for count in (49, 50, 99, 100, 101, 199, 200, 201, 600)]
    while len(strings) < number:
        length = 700 if len(strings) % 100 == 0 else random.randint(1, 12)  # some are longer than any model's limit
        strings.append("".join(piece for _ in range(length) for piece in (_word(random), random.choice(_SPACES))))
    return strings[:number]


def _word(random: Random) -> str:
    kind = random.randrange(6)
    if kind == 0:
        return "".join(_letters(random, random.choice(_BLOCKS), random.randint(1, 8)))
    if kind == 1:  # letters of two blocks in one word
        first, second = random.choice(_BLOCKS), random.choice(_BLOCKS)
        mixed = [*_letters(random, first, 3), *_letters(random, second, 3)]
        random.shuffle(mixed)
        return "".join(mixed)
    if kind == 2:
        return str(random.randrange(10 ** random.randint(1, 9)))
    word = "".join(random.choices(_COMMON, k=random.randint(1, 12)))
    word = random.choice((word, word, word.title(), word.upper()))
    return word + random.choice(_PUNCTUATION) if kind == 3 else word


def _letters(random: Random, block: tuple[int, int], number: int) -> Iterator[str]:
    for _ in range(number):
        yield chr(random.randint(*block))

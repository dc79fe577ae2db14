"""What differs from language to language, as data, and which language a text is in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from data.document import CHAPTER, PART, SCENE, Document

AUTO = "auto"
DEFAULT = "english"  # where a text does not say
_SAMPLE_CHARS = 20_000


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _levels(*, chapters: str, parts: str, scenes: str) -> Mapping[str, int]:
    kinds = ((CHAPTER, chapters), (PART, parts), (SCENE, scenes))
    return MappingProxyType({word: level for level, words in kinds for word in words.split()})


@dataclass(frozen=True)
class LanguageRules:
    """What the splitter and the reader of plain text know of a language; words are in lower case, without a full stop.

    A language without an entry is split by what Punkt learns from the texts.

    Attributes:
        titles: a full stop behind one never ends a sentence: "Mr. Root".
        numbered: nor behind one of these before a number: "No. 5".
        abbreviations: these may end a sentence: they do before a word that Punkt or `starters` know to begin one.
        closers: these end a sentence before any capital: "etc."
        behind: abbreviations that are words as well, and the word before that tells: "театр им. Чехова", not "с им."
        starters: words that begin a sentence when they come with a capital behind an abbreviation.
        ordinals: what follows a number with a full stop that is an ordinal: "5. Oktober".
        initials: whether a capital letter with a full stop is an initial even if Punkt has not seen the name.
        pronouns: capital letters that are words: "Это был я. Он вошёл" but "Я. Б. Зельдович".
        vowels: its letters; a word that Punkt takes for an abbreviation has none or a full stop inside.
        headings: word that heads a chapter -> level, "chapter" in "Chapter IV".
        named_headings: chapters without a number: "Prologue".
        numerals: a regular expression of the numbers in words that follow such a word or come before it.
    """

    titles: frozenset[str] = frozenset()
    numbered: frozenset[str] = frozenset()
    abbreviations: frozenset[str] = frozenset()
    closers: frozenset[str] = frozenset()
    behind: Mapping[str, re.Pattern[str]] = field(default_factory=lambda: MappingProxyType({}))
    starters: frozenset[str] = frozenset()
    ordinals: frozenset[str] = frozenset()
    initials: bool = False
    pronouns: frozenset[str] = frozenset()
    vowels: str = ""
    headings: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    named_headings: frozenset[str] = frozenset()
    numerals: str = ""

    def is_abbreviation(self, word: str) -> bool:
        """Says whether a word, in lower case, is in one of the lists that do not depend on what comes before it."""
        return word in self.titles or word in self.abbreviations or word in self.closers


_ENGLISH_UNITS = (
    "one|two|three|four|five|six|seven|eight|nine|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth"
)
_RUSSIAN_PLACES = (
    r"(?:театр|завод|институт|университет|школ|музе|библиотек|академи|колхоз|совхоз|фабрик|комбинат|шахт|рудник|площад|"
    r"улиц|проспект|набережн|парк|сад|сквер|дворец|дворц|дом|клуб|стадион|больниц|клиник|училищ|консерватори|гимнази|"
    r"лице|техникум|колледж|преми|стипенди|медал|орден|конкурс|фонд|центр|канал|галере|полк|дивизи|бригад|станци|"
    r"аэропорт|лагер|пароход|теплоход|крейсер|обществ|цирк|хор|ансамбл|оркестр|зал)\w*|(?-i:[А-ЯЁ]{2,}\w*)|.*[»\"]"
)

LANGUAGE_RULES: Mapping[str, LanguageRules] = MappingProxyType(
    {
        "english": LanguageRules(
            titles=_words("mr mrs ms messrs mme mlle dr st rev hon capt col gen lieut lt sgt maj prof"),
            numbered=_words("no nos art sec vol ch fig p pp jan feb mar apr aug sept oct nov dec"),
            abbreviations=_words("viz esq sr jr vs cf ult inst vol i.e e.g"),
            closers=_words("etc"),
            starters=_words(
                "the he she it they we you but and in on at by this that these those there then his her its their our "
                "my your when where while after before if as for so nor yet from with without to i a an"
            ),
            initials=True,
            pronouns=_words("i"),
            vowels="aeiouy",
            headings=_levels(chapters="chapter letter canto act", parts="part book volume", scenes="scene"),
            named_headings=_words("prologue epilogue preface introduction foreword afterword conclusion"),
            numerals=(
                rf"(?:the )?(?:(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?:[ -](?:{_ENGLISH_UNITS}))?|"
                rf"{_ENGLISH_UNITS}|ten|eleven|twelve|tenth|eleventh|twelfth|\w+teen(?:th)?|\w+tieth|last)|the \w+"
            ),
        ),
        "russian": LanguageRules(
            titles=_words(
                "г-н г-жа г-на г-же г-ну проф акад доц инж канд чл корр тов гр св свв преп еп архиеп митр прот "
                "свящ о д с т тт п пп ст ул пл пер просп б-р наб пос дер хут оз обл окр зам зав нач пом ген "
                "адм лейт кап мл сб ср напр т.е т.ч т.к т.н т.о и.о ок букв греч лат нем англ франц итал исп яз "
                "ред сост дж вс хр эд юр дем"
            ),
            numbered=_words(
                "стр рис гл ч чч табл разд параграф вып кн изд кв корп эт тел прим примеч илл абз к л лл ф оп №"
            ),
            abbreviations=_words(
                "г гг в вв н.э р.х пр тыс млн млрд трлн ч мин сек кв изд кн гл с.г т.г с.ш ю.ш в.д з.д ж.д л.с "
                "стр дол долл вып соч собр полн худ лит рус русск"
            ),
            closers=_words("т.д т.п др руб коп проч у.е"),
            behind=MappingProxyType(
                {
                    "им": re.compile(_RUSSIAN_PLACES, re.IGNORECASE),
                    "см": re.compile(r"\D*"),
                    "р": re.compile(r"\D*"),
                    "м": re.compile(r"\D*"),
                    "ум": re.compile(r".*[(,]"),
                    "род": re.compile(r".*[(,]"),
                }
            ),
            starters=_words(
                "я ты он она оно мы вы они это этот эта эти тот та те то и а но да или же в во на за из к ко с со у о "
                "об от до по под над при про без для через после перед между когда где куда там тут здесь теперь потом "
                "тогда затем так как что кто чей если хотя пока едва лишь только ещё еще уже вот вдруг однако все всё "
                "весь вся его её ее их мой моя моё мои твой свой наш ваш не ни нет был была было были сам сама"
            ),
            initials=True,
            pronouns=_words("я"),
            vowels="аеёиоуыэюя",
            headings=_levels(
                chapters="глава действие акт песнь письмо", parts="часть том книга", scenes="сцена явление картина"
            ),
            named_headings=_words("пролог эпилог предисловие введение вступление послесловие заключение"),
            numerals=(
                r"(?:(?:двадцать|тридцать|сорок|пятьдесят|шестьдесят|семьдесят|восемьдесят|девяносто|сто) )?"
                r"(?:перв|втор|трет|четв[её]рт|пят|шест|седьм|восьм|девят|десят|\w+надцат|двадцат|тридцат|сороков|"
                r"\w+десят|девяност|сот|последн)(?:ая|яя|ый|ий|ой|ое|ее|ья|ье)|"
                r"(?:(?:двадцать|тридцать|сорок|пятьдесят|шестьдесят|семьдесят|восемьдесят|девяносто|сто) )?"
                r"(?:один|одна|два|две|три|четыре|пять|шесть|семь|восемь|девять)|десять|\w+надцать|двадцать|тридцать|сорок"
            ),
        ),
        "german": LanguageRules(
            titles=_words("hr frl dr prof st z.b d.h vgl bzw ca sog geb gest"),
            numbered=_words("nr bd s abs art kap abb anm tab"),
            abbreviations=_words("u.a u.ä o.ä evtl ggf inkl jh v.chr n.chr"),
            closers=_words("usw etc usf"),
            starters=_words(
                "der die das er sie es wir ihr ich und aber in im am auf an da dann dort doch als wenn so ein"
            ),
            ordinals=_words(
                "januar jänner februar märz april mai juni juli august september oktober november dezember jahrhundert "
                "jahrhunderts kapitel band tag jahr mal auflage"
            ),
            vowels="aeiouyäöü",
            headings=_levels(chapters="kapitel akt aufzug gesang", parts="teil band buch", scenes="szene auftritt"),
            named_headings=_words("prolog epilog vorwort einleitung nachwort"),
            numerals=r"(?:erst|zweit|dritt|viert|fünft|sechst|siebent?|acht|neunt|zehnt|elft|zwölft|\w+zehnt|\w+zigst)e[rs]?",
        ),
        "french": LanguageRules(
            titles=_words("m mm mme mmes mlle mlles mgr dr st ste me"),
            numbered=_words("no nos p pp vol t chap art fig"),
            abbreviations=_words("cf av apr env"),
            closers=_words("etc"),
            starters=_words(
                "le la les il elle ils elles on nous vous je tu ce cette ces et mais dans en un une à au c"
            ),
            vowels="aeiouyàâäéèêëîïôöùûüœ",
            headings=_levels(chapters="chapitre acte chant lettre", parts="partie tome livre", scenes="scène"),
            named_headings=_words("prologue épilogue préface avant-propos postface"),
            numerals=r"premi(?:er|ère)|second|seconde|\w+ième|dernier|dernière",
        ),
        "spanish": LanguageRules(
            titles=_words("sr sra srta sres d dña dr dra prof ud uds vd vds"),
            numbered=_words("pág págs p pp núm núms vol cap art fig"),
            closers=_words("etc"),
            starters=_words("el la los las él ella ellos y pero en un una de que no se lo al con por para"),
            vowels="aeiouáéíóúü",
            headings=_levels(chapters="capítulo capitulo acto canto", parts="parte libro tomo", scenes="escena"),
            named_headings=_words("prólogo epílogo prefacio introducción"),
            numerals=r"primer[oa]?|segund[oa]|tercer[oa]?|cuart[oa]|quint[oa]|sext[oa]|séptim[oa]|octav[oa]|noven[oa]|décim[oa]",
        ),
        "italian": LanguageRules(
            titles=_words("sig sigg sig.ra sig.na dott prof avv ing on s"),
            numbered=_words("p pp pag pagg n nn vol cap art fig"),
            closers=_words("ecc"),
            starters=_words("il lo la i gli le egli ella essi e ma in un una di che non si al con per"),
            vowels="aeiouàèéìòù",
            headings=_levels(chapters="capitolo atto canto", parts="parte libro", scenes="scena"),
            named_headings=_words("prologo epilogo prefazione introduzione"),
            numerals=r"prim[oa]|second[oa]|terz[oa]|quart[oa]|quint[oa]|sest[oa]|settim[oa]|ottav[oa]|non[oa]|decim[oa]",
        ),
    }
)


def rules_of(language: str) -> LanguageRules:
    """Returns the rules of a language, or those of none."""
    return LANGUAGE_RULES.get(language, _NO_RULES)


_NO_RULES = LanguageRules()

PUNKT_NAMES: Mapping[str, str] = MappingProxyType(
    {
        code: name
        for name, codes in {
            **{"czech": "cs ces cze", "danish": "da dan", "dutch": "nl nld dut", "english": "en eng"},
            **{"estonian": "et est", "finnish": "fi fin", "french": "fr fra fre", "german": "de deu ger"},
            **{"greek": "el ell gre", "italian": "it ita", "malayalam": "ml mal", "norwegian": "no nb nn nor nob nno"},
            **{"polish": "pl pol", "portuguese": "pt por", "russian": "ru rus", "slovene": "sl slv"},
            **{"spanish": "es spa", "swedish": "sv swe", "turkish": "tr tur"},
            # Punkt has no model of these; the names are ours, and each is learnt from the texts.
            **{"ukrainian": "uk ukr", "belarusian": "be bel", "bulgarian": "bg bul", "serbian": "sr srp"},
            **{"macedonian": "mk mkd mac", "hungarian": "hu hun", "slovak": "sk slk slo", "romanian": "ro ron rum"},
            **{"croatian": "hr hrv", "latin": "la lat", "arabic": "ar ara", "hebrew": "he heb iw", "hindi": "hi hin"},
            **{"chinese": "zh zho chi", "japanese": "ja jpn", "korean": "ko kor", "thai": "th tha"},
            **{"armenian": "hy hye arm", "georgian": "ka kat geo", "persian": "fa fas per", "catalan": "ca cat"},
        }.items()
        for code in codes.split()
    }
)

# The commonest words of each language, counted where the script does not tell; a language that is not here is taken for
# its nearest neighbour or for English.
_STOP_WORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "czech": _words(
            "a se na je že v to s z do o jsem i k by ale tak jak za si už jako po ve jsou byl být jen když nebo"
        ),
        "danish": _words(
            "og i at det er en til af som på de med den der ikke et jeg har han for vi var mig sig men hvad du"
        ),
        "dutch": _words(
            "de het een en van ik te dat die in is niet zijn op aan met voor er maar om ook dan zij wij naar je"
        ),
        "english": _words(
            "the and of to a in i that it is was he you for with his as not be on had but at her they we"
        ),
        "estonian": _words(
            "ja on ei et see ma ta oli kui ka me aga siis mis meie nad oma sa nii mida veel kes seda teie"
        ),
        "finnish": _words(
            "ja on ei että se hän oli minä mutta kun ovat olen niin me he mitä tämä jos kuin sen nyt vain ole"
        ),
        "french": _words(
            "de la le et les des est en un une que il dans qui pas ne je vous ce pour nous sur au du se plus"
        ),
        "german": _words(
            "der die und in das den nicht ich ist zu ein es mit sie von sich auf wir dem er eine wie als auch"
        ),
        "hungarian": _words(
            "a az és hogy nem egy is ez meg csak de van már mint volt ha el még én mi itt azt fel lesz kell"
        ),
        "italian": _words(
            "di e la il che non un a per è in una sono i mi con si del ma le lo da ho ci della come gli al"
        ),
        "norwegian": _words(
            "og i det er på til en av som ikke for at med de den jeg vi har et du han var seg men fra hva meg"
        ),
        "polish": _words(
            "i w na nie z się do to że jest o jak a po ale co tak za od tylko by już ich jego dla przez czy są"
        ),
        "portuguese": _words(
            "de a o que e do da não em um para com uma os no se na por mais as dos eu mas foi ele das seu"
        ),
        "romanian": _words(
            "și de în a la că nu pe o este cu din un care să mai ce se am sunt pentru au lui fi dar ai cum"
        ),
        "slovene": _words("in je da se na za so v ne ki pa sem ni z bi kot tudi to po od si če smo kaj ga bo še ali"),
        "spanish": _words(
            "de la que el en y a los no se un las por con una lo es para su al del mi como pero más le esta"
        ),
        "swedish": _words(
            "och i att det är en på som av inte för den med jag till de vi har ett han var men om du från sig"
        ),
        "turkish": _words(
            "ve bir bu da de için ne o ben ama çok gibi daha değil var kadar sen biz mi onu her şey bana mı"
        ),
    }
)
_SCRIPTS: Mapping[str, str] = MappingProxyType(  # characters -> language, where a script has one or one stands for all
    {
        "russian": "\u0400-\u052f",
        "greek": "\u0370-\u03ff\u1f00-\u1fff",
        "japanese": "\u3040-\u30ff",
        "chinese": "\u3400-\u9fff",
        "korean": "\u1100-\u11ff\uac00-\ud7af",
        "arabic": "\u0600-\u06ff\u0750-\u077f",
        "hebrew": "\u0590-\u05ff",
        "hindi": "\u0900-\u097f",
        "malayalam": "\u0d00-\u0d7f",
        "thai": "\u0e00-\u0e7f",
        "armenian": "\u0530-\u058f",
        "georgian": "\u10a0-\u10ff",
        "latin": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
    }
)
_CYRILLIC_LETTERS = (  # letters that Russian has not, and whose they are
    ("belarusian", "ўЎ"),
    ("ukrainian", "їЇєЄґҐ"),
    ("macedonian", "ѓЃќЌѕЅ"),
    ("serbian", "ђЂћЋљЉњЊ"),
)
_LETTERS = {name: re.compile(f"[{letters}]") for name, letters in _SCRIPTS.items()}
_WORD = re.compile(r"[^\W\d_]+")


def guess_language(text: str) -> str:
    """Returns the language of a text by its script and, for Latin letters, by its commonest words.

    Names are Punkt's, or plain English names where Punkt has no model; English when unsure. The first twenty thousand
    characters decide.
    """
    sample = text[:_SAMPLE_CHARS]
    counts = {name: len(letters.findall(sample)) for name, letters in _LETTERS.items()}
    if counts["japanese"] * 10 > counts["chinese"]:  # its texts hold more Chinese characters than kana
        counts["japanese"] += counts.pop("chinese")
    script = max(counts, key=lambda name: counts[name])
    if not counts[script]:
        return DEFAULT
    if script == "latin":
        return _guess_latin(sample)
    return _guess_cyrillic(sample, counts[script]) if script == "russian" else script


def _guess_latin(sample: str) -> str:
    words = [word.lower() for word in _WORD.findall(sample)]
    hits = {name: sum(word in stop_words for word in words) for name, stop_words in _STOP_WORDS.items()}
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] > 1.2 * hits[DEFAULT] and hits[best] >= max(3, len(words) // 12) else DEFAULT


def _guess_cyrillic(sample: str, num_letters: int) -> str:
    for name, letters in _CYRILLIC_LETTERS:
        if sum(map(sample.count, letters)) > num_letters / 250:
            return name
    # Bulgarian has no ы, э, ё, which make 3 % of Russian, and six times as many ъ.
    if num_letters > 200 and sum(map(sample.count, "ыЫэЭёЁ")) < num_letters / 500 < sum(map(sample.count, "ъЪ")) / 2:
        return "bulgarian"
    return "russian"


def language_of(document: Document) -> str:
    """Returns the language of a document as Punkt names it: what it says, also as "de" or "en-GB", or else a guess."""
    said = document.language.strip().lower()
    if said and said != AUTO:
        return PUNKT_NAMES.get(re.split("[-_]", said, maxsplit=1)[0], said)
    sample: list[str] = []
    missing = _SAMPLE_CHARS
    for block in document.blocks:
        sample.append(block.text[:missing])
        missing -= len(sample[-1]) + 1
        if missing <= 0:
            break
    return guess_language("\n".join(sample))

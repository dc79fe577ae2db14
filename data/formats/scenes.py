"""YAML to documents: files of scenes, and corpora of question and answer in the form of ChatterBot."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data.document import SCENE, Block, Document
from data.formats.hypertext import decode_text
from data.formats.safe_yaml import MAX_BYTES, read_yaml
from data.report import ReadReport

SCENE_KEYS = ("title", "characters", "setting", "beats", "dialogue")
_CHAT_KEYS = ("categories", "conversations")
_SPEAKER_KEYS = ("speaker", "character", "name", "who")  # of a line of dialogue that is {speaker: ..., text: ...}
_TEXT_KEYS = ("text", "line", "says")


def read_scenes(path: Path, name: str, report: ReadReport) -> Iterator[Document]:
    """Yields the document that a YAML file of scenes is, or one for each conversation of a ChatterBot corpus.

    A scene is `title, characters: [], setting, beats: [], dialogue: [{speaker: text}]`; `---`, or a list, holds
    several. What is planned is of level 1, what is said of level 0.

    Raises:
        ValueError: no YAML, more than YAML of this kind is, or neither scenes nor conversations.
    """
    if path.stat().st_size > 4 * MAX_BYTES:
        raise ValueError(f"{name} is larger than {MAX_BYTES >> 20} MiB, more than is read as YAML; cut it into files")
    parts = [part for part in read_yaml(decode_text(path.read_bytes(), name, report), name) if part is not None]
    parts = [item for part in parts for item in (part if isinstance(part, list) else [part])]
    scenes = [part for part in parts if _is_scene(part)]
    chats = [part for part in parts if isinstance(part, Mapping) and isinstance(part.get("conversations"), list)]
    if not scenes and not chats:
        raise ValueError(_describe_neither(parts, name))
    report.count(f"parts of {name} that are no scenes left out", len(parts) - len(scenes) - len(chats))
    stem = Path(name).stem
    blocks = [block for scene in scenes for block in _read_scene(scene, name, report)]
    if blocks:
        title = _text(scenes[0].get("title")) if len(scenes) == 1 else ""
        yield Document(title or stem, tuple(blocks), name)
    for chat in chats:
        _note_unknown(chat, _CHAT_KEYS, name, report)
    conversations = [conversation for chat in chats for conversation in chat["conversations"]]
    for number, conversation in enumerate(conversations, start=1):
        said = [_text(line) for line in conversation] if isinstance(conversation, list) else []
        if len(said) < 2 or not all(said):
            report.count(f"conversations of {name} without question and answer left out")
            continue
        lines = [Block(line, role=("user", "assistant")[index % 2]) for index, line in enumerate(said)]
        yield Document(f"{stem} {number}", tuple(lines), name)


def _is_scene(part: Any) -> bool:
    """Tells a scene by what it plans or says; a title alone, many a configuration has."""
    if not isinstance(part, Mapping) or "conversations" in part:
        return False
    return any(part.get(key) for key in ("beats", "dialogue")) or sum(bool(part.get(key)) for key in SCENE_KEYS) > 1


def _describe_neither(parts: list[Any], name: str) -> str:
    keys = [str(key) for part in parts[:1] if isinstance(part, Mapping) for key in part]
    found = f"has the keys {', '.join(keys[:6])}" if keys else "has no mapping at its top"
    return (
        f"{name} {found}: a scene has {', '.join(SCENE_KEYS)} (several in a file are parted by ---), "
        f"a ChatterBot corpus has {' and '.join(_CHAT_KEYS)}"
    )


def _read_scene(scene: Mapping[Any, Any], name: str, report: ReadReport) -> Iterator[Block]:
    """Yields the plan of a scene, then what is said in it."""
    _note_unknown(scene, SCENE_KEYS, name, report)
    if title := _text(scene.get("title")):
        yield Block(title, SCENE, "heading")
    for key, role in (("setting", "summary"), ("characters", "character"), ("beats", "summary")):
        for line in _lines(scene.get(key)):
            yield Block(line, SCENE, role)
    for speaker, said in _speeches(scene.get("dialogue")):
        if said:
            yield Block(said, role=speaker or "sentence")
        else:
            report.count(f"lines of dialogue in {name} without words left out")


def _lines(value: Any) -> list[str]:
    """Returns a line for each item of a list or of a mapping, "name: description", or the one line of a text."""
    if isinstance(value, list):
        return [line for item in value for line in ([_text(item)] if isinstance(item, list) else _lines(item))]
    if not isinstance(value, Mapping):
        return [_text(value)] if _text(value) else []
    if "name" in value:
        about = [_text(item if key == "description" else {key: item}) for key, item in value.items() if key != "name"]
        return [": ".join(filter(None, (_text(value["name"]), ", ".join(filter(None, about)))))]
    return [": ".join(filter(None, (_text(key), _text(item)))) for key, item in value.items()]


def _speeches(value: Any) -> Iterator[tuple[str, str]]:
    """Yields who speaks, "" for a narrator, and what is said."""
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, Mapping):
            yield "", _text(item)
            continue
        speaker = next((key for key in _SPEAKER_KEYS if key in item), None)
        text = next((key for key in _TEXT_KEYS if key in item), None)
        if speaker is not None and text is not None:
            yield _text(item[speaker]), _text(item[text])
        else:
            for key, said in item.items():
                yield _text(key), _text(said)


def _text(value: Any) -> str:
    """Returns a value as text: the items of a list are joined, and so are those of a mapping."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_text(key)}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(filter(None, map(_text, value)))
    return value.strip() if isinstance(value, str) else ""


def _note_unknown(part: Mapping[Any, Any], known: tuple[str, ...], name: str, report: ReadReport) -> None:
    for key in part:
        if key not in known:
            report.note(f'{name}: the field "{key}" is not used')

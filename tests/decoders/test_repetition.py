import pytest

from decoders.repetition import repeated_share


@pytest.mark.parametrize(
    ("text", "before", "share"),
    [
        ("The king rode out.", "", 0.0),
        ("The king rode out.", "Then the King rode out!", 1.0),
        ("And the king rode home.", "The king rode out.", 1 / 3),
        ("So he, and he, and he, and he.", "", 3 / 6),  # "he and he" and "and he and" come again
        ("Oh no!", "He said: oh, no.", 1.0),
        ("Oh no!", "No, oh.", 0.0),
        ("Король вышел из дома.", "И король вышел из леса.", 0.5),
        ("...", "...", 0.0),
        ("", "", 0.0),
    ],
)
def test_share_of_what_was_said(text: str, before: str, share: float) -> None:
    assert repeated_share(text, before) == pytest.approx(share)

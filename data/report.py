from collections import Counter
from dataclasses import dataclass, field


@dataclass
class ReadReport:
    """What a reader left out, repaired or decided, so that nothing goes silently; the command line prints it.

    Attributes:
        counts: what happened -> how often, as in {"stage directions left out": 6407}.
        notes: single events, one sentence each.
    """

    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        """Adds to a count."""
        if number:
            self.counts[what] += number

    def note(self, sentence: str) -> None:
        """Adds a note, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def lines(self) -> list[str]:
        """Returns the report, a line for each note and each count."""
        return self.notes + [f"{number:,} {what}" for what, number in self.counts.items()]

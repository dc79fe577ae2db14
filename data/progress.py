from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


class EncodingBar:
    """A bar on stderr that counts sentences and their speed, and fills by characters where all of them are known.

    Args:
        total_chars: characters of the whole corpus; None while it streams.
        visible: show it.
    """

    def __init__(self, total_chars: int | None, *, visible: bool = True) -> None:
        self._bar = _make_bar(visible)
        self._task = self._bar.add_task("encoding", total=total_chars, sentences=0)
        self._sentences = 0
        self._lock = Lock()

    def advance(self, sentences: int, chars: int) -> None:
        """Counts what was encoded, from any thread; what a former run had done counts by its characters alone."""
        with self._lock:
            self._sentences += sentences
            self._bar.update(self._task, advance=chars, sentences=self._sentences)

    def __enter__(self) -> "EncodingBar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _make_bar(visible: bool) -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class SpeedColumn(ProgressColumn):
        """Sentences of this run, and how many a second."""

        def render(self, task: Task) -> Text:
            done, seconds = task.fields["sentences"], task.elapsed or 0.0
            return Text(
                f"{done:,} sentences, {done / seconds:,.0f}/s" if done and seconds > 1 else f"{done:,} sentences"
            )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        SpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not visible,
    )

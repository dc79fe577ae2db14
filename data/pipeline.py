"""What runs before and behind a loop, each in a thread of its own, so that the loop does not wait for it."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")
Arguments = ParamSpec("Arguments")


def run_ahead(function: Callable[[Given], Made], items: Iterable[Given], *, depth: int = 2) -> Generator[Made]:
    """Yields what a function makes of each item, in order; a thread reads the items and makes the next ones meanwhile.

    An error of the function or of the items comes where its result would. Close the generator to stop the thread, as
    `contextlib.closing` does; that waits for what is in work.

    Args:
        function: what is done to an item.
        items: read in the thread, no further than needed.
        depth: results that wait or are in work, beside the one that was yielded last.
    """
    iterator = iter(items)

    def make() -> tuple[Made] | None:
        for item in iterator:
            return (function(item),)
        return None

    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        waiting = deque(pool.submit(make) for _ in range(depth))
        try:
            while made := waiting.popleft().result():
                waiting.append(pool.submit(make))
                yield made[0]
        finally:
            pool.shutdown(cancel_futures=True)


class Behind:
    """Runs calls one after the other in a thread while its caller goes on; nothing is run after one that failed.

    Leaving the `with` block waits for all of them, whatever it is left for.

    Args:
        depth: calls that wait or are in work; a further one makes the caller wait.
    """

    def __init__(self, depth: int = 2) -> None:
        self._depth = depth
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self._calls: deque[Future[None]] = deque()  # the last one, and those before it that are not done

    def run(
        self, function: Callable[Arguments, object], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> None:
        """Runs a call when those before it are done; raises the error of an earlier one."""
        while len(self._calls) >= self._depth:
            self._calls.popleft().result()
        before = self._calls[-1] if self._calls else None

        def call() -> None:
            if before is not None:
                before.result()  # raises its error, which so becomes that of every later call
            function(*arguments, **options)

        self._calls.append(self._pool.submit(call))

    def check(self) -> None:
        """Raises the error of an earlier call, if there is one by now."""
        while self._calls and self._calls[0].done():
            self._calls.popleft().result()

    def __enter__(self) -> "Behind":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        if error is None:
            self.check()

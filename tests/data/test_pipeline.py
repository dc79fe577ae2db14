import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from data.pipeline import Behind, run_ahead


def numbers(last: int, seen: list[int] | None = None) -> Iterator[int]:
    for number in range(last):
        if seen is not None:
            seen.append(number)
        yield number


def test_order_is_kept_and_all_is_made_in_a_thread() -> None:
    made = list(run_ahead(lambda number: (number, threading.current_thread().name), numbers(50)))
    assert [number for number, _ in made] == list(range(50))
    assert {name for _, name in made} == {"ahead_0"}
    assert list(run_ahead(str, [])) == []
    assert list(run_ahead(bool, [0, 1])) == [False, True]  # what is false is a result too


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_nothing_is_read_further_ahead_than_said(depth: int) -> None:
    seen: list[int] = []
    with closing(run_ahead(int, numbers(40, seen), depth=depth)) as made:
        assert seen == []
        for number in made:
            assert len(seen) <= number + 1 + depth
    assert len(seen) == 40


def test_what_is_next_is_made_while_the_loop_works() -> None:
    second = threading.Event()
    with closing(run_ahead(lambda number: number and second.set(), numbers(3))) as made:
        next(made)
        assert second.wait(10)


@pytest.mark.parametrize("where", ["items", "function"])
def test_an_error_comes_where_its_result_would(where: str) -> None:
    def items() -> Iterator[int]:
        yield from (0, 1, 2)
        raise FileNotFoundError("no third")

    def invert(number: int) -> float:
        return 1 / (2 - number)

    made = run_ahead(invert if where == "function" else float, items())
    assert [next(made), next(made)] == ([0.5, 1.0] if where == "function" else [0.0, 1.0])
    if where == "items":
        assert next(made) == 2.0
    with pytest.raises((ZeroDivisionError, FileNotFoundError)):
        next(made)
    assert not alive("ahead")


def test_a_loop_that_is_left_stops_the_thread() -> None:
    seen: list[int] = []
    begun, left = threading.Event(), threading.Event()

    def work(number: int) -> None:
        if number == 6:
            begun.set()
            left.wait(10)

    made = run_ahead(work, numbers(1000, seen), depth=5)
    with pytest.raises(KeyboardInterrupt), closing(made):
        for number, _ in enumerate(made):
            if number == 5:
                assert begun.wait(10)
                threading.Timer(1.0, left.set).start()
                raise KeyboardInterrupt
    assert seen == list(range(7)) and not alive("ahead")  # the one in work was waited for, those behind it dropped


def test_calls_are_run_in_order_behind_the_loop() -> None:
    done: list[int] = []
    wait = threading.Event()
    with Behind(depth=3) as behind:
        behind.run(wait.wait, timeout=10)
        behind.run(done.append, 1)
        behind.run(done.append, 2)  # two wait, one is in work: the loop goes on
        assert done == []
        wait.set()
        for number in range(3, 50):
            behind.run(done.append, number)
            assert len(done) >= number - 3
    assert done == list(range(1, 50)) and not alive("behind")


def test_nothing_is_run_after_a_call_that_failed() -> None:
    done: list[int] = []
    wait = threading.Event()

    def fail() -> None:
        wait.wait(10)
        raise OSError(28, "no space")

    behind = Behind(depth=10)
    with pytest.raises(OSError, match="no space") as caught, behind:
        behind.run(done.append, 1)
        behind.run(fail)
        behind.run(done.append, 2)
        behind.run(done.append, 3)
        wait.set()
    assert done == [1] and caught.value.errno == 28 and not alive("behind")


def test_the_loop_learns_of_a_call_that_failed() -> None:
    def fail() -> None:
        raise OSError("no space")

    for learn in (lambda behind: behind.check(), lambda behind: behind.run(print)):
        with pytest.raises(OSError, match="no space"), Behind(depth=1) as behind:
            behind.check()
            behind.run(fail)
            for _ in range(10_000_000):
                learn(behind)
            raise AssertionError("it was never told")


def test_a_loop_that_fails_has_its_calls_finished_and_its_own_error_raised() -> None:
    done: list[int] = []
    wait = threading.Event()
    with pytest.raises(KeyboardInterrupt), Behind(depth=10) as behind:
        behind.run(wait.wait, 10)
        behind.run(done.append, 1)
        behind.run(int, "x")
        wait.set()
        raise KeyboardInterrupt
    assert done == [1] and not alive("behind")


def alive(prefix: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)]

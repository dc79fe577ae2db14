import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.document import Block, Document
from data.plan import ShardPlan
from data.spool import Spool

DOCUMENT = Document(
    "A tale", (Block("Chapter 1", 2, "heading"), Block("«Кто там?» — спросил он.")), "test", "CC0", "russian"
)


def begin(folder: Path) -> Spool:
    spool = Spool(folder)
    spool.begin({"splitter": {"of": "ours"}})
    return spool


def write(folder: Path, index: int, content: str) -> None:
    (folder / f"{index:05d}.arrow").write_text(content)
    (folder / f"{index:05d}.json").write_text(f"about {content}")


@given(text=st.text(), number=st.integers(0, 99_999))
def test_a_plan_comes_out_as_it_went_in(tmp_path_factory: pytest.TempPathFactory, text: str, number: int) -> None:
    spool = begin(tmp_path_factory.mktemp("store"))
    odd = text + "\ud800\0\u2028"
    plan = ShardPlan(number, 7, (DOCUMENT, Document(odd, (Block(odd, 1, odd),), odd)))
    spool.put(plan)
    assert spool.plan(number) == plan
    assert spool.plan(number).digest("recipe") == plan.digest("recipe")
    assert spool.recipe() == {"splitter": {"of": "ours"}}


def test_numbers_are_followed_while_they_come_and_begin_at_the_first_again(tmp_path: Path) -> None:
    spool = begin(tmp_path)

    def feed() -> None:
        for index in (3, 1, 40_000):
            time.sleep(0.1)
            spool.put(ShardPlan(index, 0, (DOCUMENT,)))
        spool.end()
        spool.end()

    feeding = threading.Thread(target=feed)
    feeding.start()
    assert list(spool.numbers()) == [3, 1, 40_000]
    assert list(spool.numbers()) == [3, 1, 40_000]  # a follower that was lost begins anew
    feeding.join()


def test_a_follower_ends_with_the_run(tmp_path: Path) -> None:
    spool = begin(tmp_path)
    spool.put(ShardPlan(0, 0, (DOCUMENT,)))
    numbers = spool.numbers()
    assert next(numbers) == 0
    spool.remove()
    assert list(numbers) == []
    assert list(tmp_path.iterdir()) == []


def test_a_shard_is_moved_whole_and_leaves_nothing(tmp_path: Path) -> None:
    spool = begin(tmp_path)
    spool.put(ShardPlan(4, 0, (DOCUMENT,)))
    write(tmp_path, 4, "old")
    with spool.attempt(4) as folder:
        write(folder, 4, "new")
        assert (tmp_path / "00004.arrow").read_text() == "old"
        spool.move(folder, 4)
    assert (tmp_path / "00004.arrow").read_text() == "new"
    assert (tmp_path / "00004.json").read_text() == "about new"
    assert spool.discard(4) == 0
    assert sorted(file.name for file in tmp_path.glob(".work/*")) == ["queue", "recipe.json"]


def test_two_attempts_do_not_meet(tmp_path: Path) -> None:
    spool = begin(tmp_path)
    with spool.attempt(0) as lost, spool.attempt(0) as other:  # the first was given up for lost and is not
        write(lost, 0, "same")
        write(other, 0, "same")
        spool.move(other, 0)
        spool.move(lost, 0)
    assert (tmp_path / "00000.arrow").read_text() == "same"


def test_what_a_lost_run_goes_on_with_cannot_come_into_the_store(tmp_path: Path) -> None:
    lost = begin(tmp_path)
    with lost.attempt(0) as folder:
        write(folder, 0, "old")
        begin(tmp_path)
        with pytest.raises(FileNotFoundError):
            lost.move(folder, 0)
    assert not list(tmp_path.glob("0*"))


def test_attempts_are_counted_and_end(tmp_path: Path) -> None:
    spool = begin(tmp_path)
    killed = [spool.attempt(2) for _ in range(5)]
    for attempt in killed:
        attempt.__enter__()
    with pytest.raises(ValueError, match=r"shard 2 .* is killed, 5 times"), spool.attempt(2):
        pass
    with spool.attempt(3):
        pass
    assert (spool.discard(2), spool.discard(3)) == (5, 0)


def test_a_folder_that_is_not_shared_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="storage that all machines share"):
        Spool(tmp_path).attempt(0).__enter__()

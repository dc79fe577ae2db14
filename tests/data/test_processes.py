import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.durable import lock
from data.processes import Processes


def test_each_item_is_answered_by_its_own_result() -> None:
    with Processes(str.upper, 2) as processes:
        futures = [processes.submit("x" * number) for number in (0, 5, 1_000_000, 3)]
        assert [future.result() for future in futures] == ["", "XXXXX", "X" * 1_000_000, "XXX"]


def test_another_process_works() -> None:
    with Processes(eval, 2) as processes:
        found = {processes.submit("(__import__('time').sleep(.2), __import__('os').getpid())[1]").result(30)}
        found |= {future.result(30) for future in [processes.submit("__import__('os').getpid()") for _ in range(4)]}
        assert os.getpid() not in found and 1 <= len(found) <= 2
    for child in found:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_what_is_printed_is_not_taken_for_an_answer(capfd: pytest.CaptureFixture[str]) -> None:
    with Processes(eval, 1) as processes:
        assert processes.submit("print('noise', flush=True) or 7").result(30) == 7
    assert capfd.readouterr().err == "noise\n"


def test_an_error_comes_back_as_itself_and_the_process_lives_on() -> None:
    with Processes(int, 1) as processes:
        with pytest.raises(ValueError, match=r"invalid literal for int\(\) with base 10: 'x'"):
            processes.submit("x").result(30)
        assert processes.submit("12").result(30) == 12
    with Processes(Path.read_text, 1) as texts, pytest.raises(FileNotFoundError):
        texts.submit(Path("/nowhere")).result(30)


def test_a_process_that_dies_is_told() -> None:
    with Processes(os._exit, 1) as processes:
        for _ in range(2):  # and it does not wait for ever the second time
            with pytest.raises(RuntimeError, match="a process that helps this one ended with status 3"):
                processes.submit(3).result(30)


def test_nothing_is_started_where_there_is_nothing_to_do() -> None:
    with Processes(int, 3) as processes:
        assert not any("_running" in process.__dict__ for process in processes._processes)


def test_what_waits_is_dropped_when_the_block_is_left() -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Processes(time.sleep, 1) as processes:
        for _ in range(100):
            processes.submit(1.0)
        raise KeyboardInterrupt
    assert time.monotonic() - started < 20


def test_processes_end_with_the_one_that_is_killed() -> None:
    code = (
        "import os\nfrom data.processes import Processes\n"
        "with Processes(eval, 1) as p:\n"
        "    print(p.submit(\"__import__('os').getpid()\").result(), flush=True)\n"
        "    p.submit('input()')\n    __import__('time').sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}/stat").exists() and _state(child) != "Z" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}/stat").exists() or _state(child) == "Z"


def test_ctrl_c_does_not_reach_the_processes() -> None:
    with Processes(eval, 1) as processes:
        group = processes.submit("__import__('os').getpgid(0)").result(30)
        assert group != os.getpgid(0)


def test_a_folder_is_held_while_a_process_writes_for_one_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom data.durable import lock\n"
        "from data.processes import Processes\n"
        "with lock(Path(sys.argv[1])), Processes(time.sleep, 1) as p:\n"
        "    p.submit(0).result()\n    p.submit(1.5)\n    print(flush=True)\n    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None and parent.stdout.readline() == b"\n"
    time.sleep(0.3)  # its thread has sent the item
    parent.kill()
    parent.wait()
    with pytest.raises(BlockingIOError, match="another process is writing"), lock(tmp_path):
        raise AssertionError
    deadline = time.monotonic() + 20
    while True:
        try:
            with lock(tmp_path):
                break
        except BlockingIOError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    parent.stdout.close()


def _state(child: int) -> str:
    return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]

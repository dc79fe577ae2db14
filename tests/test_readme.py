"""Every command of README runs: `make` by .ci/run, `lcm` here, the trainings cut to two steps."""

import re
import shlex
from pathlib import Path

import pytest

from lcm.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def in_small(args: list[str], llm: str) -> list[str]:
    """The command with flags that make a training short."""
    if args[0] == "probe":
        return [*args, "--steps=0"]
    if args[0] != "fit":
        return args
    size = ["--trainer.max_steps=2", "--trainer.val_check_interval=2"]
    if "configs/decoder.yaml" in args:
        return [*args, *size, f"--model.decoder.llm={llm}", "--trainer.limit_val_batches=1"]
    return [*args, *size, "--model.model.backbone.width=32", "--model.model.backbone.num_layers=1"]


@pytest.mark.slow
def test_the_commands_of_the_readme_run_in_order(llm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    text = "The fox met king {}. They spoke of bread and war. " * 25 + "A bell rang. " * 2
    chapters = (f"CHAPTER {i}\n\n" + text.replace("{}", str(i)) for i in range(1, 13))
    (tmp_path / "mybook.txt").write_text("\n\n".join(chapters))
    days = (f"# Day {i}\n\n" + "It rained again. " * 40 + "\n\n" for i in range(9))
    (tmp_path / "another.md").write_text("".join(days))
    (tmp_path / "outline.md").write_text("# A fox\n\n- The fox comes (2 sentences)\n- The fox goes (1 sentence)\n")
    for command in commands():
        assert command[0] == ".venv/bin/lcm", command
        main(in_small(command[1:], llm))
    folder = tmp_path / "artifacts" / "mybook"
    assert (folder / "trajectory.png").stat().st_size > 5000
    assert (folder / "text.md").read_text().count("## ") == 2


def test_each_top_level_folder_has_its_line() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    named = set(re.findall(r"^    (\w+)/", README, re.MULTILINE))
    assert named - {"ci"} <= folders
    assert {"lcm", "encoders", "decoders", "data", "configs", "tests", "experiments"} <= named


def test_the_make_commands_are_those_of_ci() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert f"make {target}" in ci

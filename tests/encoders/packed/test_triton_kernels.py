"""What a card would refuse, and what would make it slow: the compiler says both without a card."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter does not compile")

AMPERE, HOPPER = 80, 90
HALF, FLOAT, INT = "*bf16", "*fp32", "*i32"
SHARED_MEMORY = 99 * 1024  # bytes that a program may have on the smallest cards since Ampere
NORM = {"dim": 384, "rows": 8, "block": 512}
CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, int]]] = [
    (
        "norm_kernel",
        {"out": HALF, "x": HALF, "residual": HALF, "weight": FLOAT, "bias": FLOAT, "num_rows": "i32", "eps": "fp32"},
        NORM,
        {"num_warps": 4},
    ),
    (
        "embed_kernel",
        {"out": HALF, "ids": INT, "positions": INT, "word": HALF, "position": HALF, "weight": FLOAT, "bias": FLOAT}
        | {"num_rows": "i32", "eps": "fp32"},
        NORM,
        {"num_warps": 4},
    ),
    ("pool_kernel", {"out": FLOAT, "x": HALF, "starts": INT}, NORM | {"normalizes": True}, {"num_warps": 4}),
]


def compile_for(
    architecture: int, name: str, types: dict[str, str], constants: dict[str, Any], options: dict[str, int]
) -> tuple[Any, str, str]:
    """Returns the compiled kernel, what it uses, and its instructions."""
    from triton.backends import nvidia
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from encoders.packed import triton_kernels

    kernel = getattr(triton_kernels, name)
    places = {argument: place for place, argument in enumerate(kernel.arg_names)}
    signature = {argument: types.get(argument, "constexpr") for argument in places}
    aligned = {(places[argument],): [["tt.divisibility", 16]] for argument in types if types[argument][0] == "*"}
    values = {(places[argument],): value for argument, value in constants.items()}
    source = ASTSource(kernel, signature, values, aligned)
    compiled = compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    dump = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    binary = Path(os.environ["TRITON_CACHE_DIR"]) / f"{name}.cubin"
    binary.write_bytes(compiled.asm["cubin"])
    usage, instructions = (
        subprocess.run([dump, flag, binary], capture_output=True, text=True, check=True).stdout
        for flag in ("-res-usage", "-sass")
    )
    return compiled, usage, instructions


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def check(compiled: Any, usage: str) -> None:
    assert re.search(r"REG:\d+ STACK:0 ", usage), f"registers are spilled: {usage}"
    assert compiled.metadata.shared <= SHARED_MEMORY


@pytest.mark.parametrize(("name", "types", "constants", "options"), CASES, ids=[case[0] for case in CASES])
def test_rows_are_read_sixteen_bytes_at_a_time(
    name: str, types: dict[str, Any], constants: dict[str, Any], options: dict[str, int]
) -> None:
    compiled, usage, instructions = compile_for(AMPERE, name, types, constants, options)
    check(compiled, usage)
    loads = re.findall(r"\bLDG[.\w]*", instructions)
    assert sum(".128" in load for load in loads) >= 4, loads
    assert ".128" in "".join(re.findall(r"\bSTG[.\w]*", instructions))


@pytest.mark.parametrize(("architecture", "instruction"), [(AMPERE, "HMMA"), (HOPPER, "HGMMA")])
def test_products_use_the_tensor_cores(architecture: int, instruction: str) -> None:
    from encoders.packed.triton_ops import TILE

    types = {"out": HALF, "x": HALF, "weight": HALF, "bias": FLOAT, "num_rows": "i32"}
    constants = {"in_dim": 384, "out_dim": 1536, "activation": "gelu"}
    blocks = {"block_rows": TILE.rows, "block_columns": TILE.columns, "block_depth": TILE.depth}
    options = {"num_warps": TILE.num_warps, "num_stages": TILE.num_stages}
    compiled, usage, instructions = compile_for(architecture, "linear_kernel", types, constants | blocks, options)
    check(compiled, usage)
    assert instruction in instructions
    assert re.search(r"LDGSTS[.\w]*\.128", instructions)


@pytest.mark.parametrize(
    ("architecture", "block", "head_dim", "kind"),
    [
        (HOPPER, 32, 32, {}),
        (AMPERE, 64, 64, {"window": 64}),
        (AMPERE, 128, 64, {"bias": HALF}),
        (HOPPER, 128, 128, {"is_causal": True}),  # on Ampere some are spilled
    ],
)
def test_attention_stays_in_registers(architecture: int, block: int, head_dim: int, kind: dict[str, Any]) -> None:
    from encoders.packed.triton_ops import ATTENTION_PROGRAM

    heads_each, num_warps = ATTENTION_PROGRAM[block]
    types = {"out": HALF, "qkv": HALF, "starts": INT, "scale": "fp32", "middle": "i32"}
    constants = {"heads": 12, "kv_heads": 12, "head_dim": head_dim, "block_dim": head_dim, "block": block}
    constants |= {"heads_each": heads_each, "is_causal": False, "window": -1, "bias": None} | kind
    if "bias" in kind:
        types["bias"] = constants.pop("bias")
    options = {"num_warps": num_warps, "num_stages": 1}
    compiled, usage, instructions = compile_for(architecture, "attend_kernel", types, constants, options)
    check(compiled, usage)
    assert "HMMA" in instructions or "HGMMA" in instructions

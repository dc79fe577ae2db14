"""Sampling options as a user writes them: numbers and names, turned into what a head's sample() takes."""

from collections.abc import Mapping
from typing import Any

from lcm.heads.flow import euler, midpoint
from lcm.model import ConceptModel
from lcm.samplers import ddim, dpm_solver, heun

# Options that are functions, by their names.
FUNCTIONS: dict[str, dict[str, Any]] = {
    "sampler": {function.__name__: function for function in (ddim, dpm_solver, heun)},
    "solver": {function.__name__: function for function in (euler, midpoint)},
}
WHOLE = ("num_steps", "num_candidates", "top_k")
IN_PYTHON = ("bank",)  # tensors, which a command line cannot hold


def read_sampling(model: ConceptModel, given: Mapping[str, int | float | str]) -> dict[str, Any]:
    """Return the options of a model's head as sample() takes them.

    Args:
        model: whose options they are.
        given: numbers by name, functions by their name, as in {"num_steps": 20, "sampler": "heun"}.

    Raises:
        ValueError: the head has no such option, or the value is of another kind.
    """
    offered = sorted(model.sampling_options() - set(IN_PYTHON))
    for name in given:
        if name not in offered:
            which = f"its options are {', '.join(offered)}" if offered else "it draws nothing and has no options"
            raise ValueError(f"a {type(model.head).__name__} has no sampling option {name}; {which}")
    return {name: read_option(name, value) for name, value in given.items()}


def read_option(name: str, value: int | float | str) -> Any:
    """Return the value of an option: the function of that name where it is one, else the number."""
    if name in FUNCTIONS:
        if value not in FUNCTIONS[name]:
            raise ValueError(f"the sampling option {name} is one of {', '.join(FUNCTIONS[name])}, found {value}")
        return FUNCTIONS[name][str(value)]
    if isinstance(value, bool | str):
        raise ValueError(f"the sampling option {name} is a number, found {value}")
    if name in WHOLE and not isinstance(value, int):
        raise ValueError(f"the sampling option {name} is a whole number, found {value}")
    return value

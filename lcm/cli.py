"""The command `lcm`: fit, validate, test and predict are Lightning's, the other verbs are functions of lcm.tools."""

import os
import sys

TRAINING = ("fit", "validate", "test", "predict")
# True where given without a value.
SWITCHES = tuple(
    f"--{name}"
    for name in ["verify", "peek", "stop_at_end", "stop_at_repetition", "keep_boilerplate", "keep_control_characters"]
)


def main(args: list[str] | None = None) -> None:
    """Run the command; a user's mistake ends it with one sentence and exit code 2."""
    verb = next(iter(sys.argv[1:] if args is None else args), None)
    try:
        train(args) if verb in TRAINING else use(args)
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("LCM_DEBUG"):
            raise
        sys.stderr.write(f"lcm: {one_sentence(error)}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def one_sentence(error: Exception) -> str:
    """Return what an error says, without what omegaconf wraps around it."""
    text = str(error).split("while resolving interpolation: ")[-1]
    return text.split("\n    full_key:")[0].strip()


def use(args: list[str] | None) -> None:
    """Run a verb of lcm.tools."""
    from jsonargparse import auto_cli

    from lcm.store_tools import listed
    from lcm.tools import TOOLS

    given = sys.argv[1:] if args is None else args
    auto_cli(TOOLS, args=listed([spelt(arg) for arg in given]), prog="lcm")


def spelt(arg: str) -> str:
    """Return an argument as the parser spells it: --a-b=c is --a_b=c, and a switch alone is true."""
    if not arg.startswith("--"):
        return arg
    name, equals, value = arg.partition("=")
    name = "--" + name[2:].replace("-", "_")
    return f"{name}=true" if name in SWITCHES and not equals else name + equals + value


def train(args: list[str] | None) -> None:
    """Run a verb of Lightning's command line; SIGTERM leaves a checkpoint and exits with 143."""
    from jsonargparse import set_parsing_settings

    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

    from lcm.training import run

    try:
        run(args)
    except SIGTERMException:
        sys.exit(143)
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error


if __name__ == "__main__":
    main()

"""The command `lcm`: fit, validate, test and predict are Lightning's, the other verbs are functions of lcm.tools."""

import os
import sys

from lcm.console import one_sentence

TRAINING = ("fit", "validate", "test", "predict")


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


def use(args: list[str] | None) -> None:
    """Run a verb of lcm.tools."""
    from jsonargparse import auto_cli

    from lcm.arguments import parsed
    from lcm.tools import TOOLS

    auto_cli(TOOLS, args=parsed(sys.argv[1:] if args is None else args), prog="lcm")


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

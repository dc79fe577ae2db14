"""Arguments as a user types them, as the parser takes them."""

import json

# True where given without a value.
SWITCHES = (
    "--verify",
    "--peek",
    "--stop_at_end",
    "--stop_at_repetition",
    "--keep_boilerplate",
    "--keep_control_characters",
)
# Options that take several values.
LISTS = ("--sources", "--licences", "--languages", "--roles_out", "--levels_out", "--splits")


def parsed(args: list[str]) -> list[str]:
    """Return arguments in the parser's spelling, lists in JSON."""
    return listed([spelt(arg) for arg in args])


def spelt(arg: str) -> str:
    """Return an argument as the parser spells it: --a-b=c is --a_b=c, and a switch alone is true."""
    if not arg.startswith("--"):
        return arg
    name, equals, value = arg.partition("=")
    name = "--" + name[2:].replace("-", "_")
    return f"{name}=true" if name in SWITCHES and not equals else name + equals + value


def listed(args: list[str]) -> list[str]:
    """Return arguments with lists in JSON, as the parser takes them: behind an option of LISTS, the stores of merge."""
    lists: dict[str, list[str]] = {}
    rest: list[str] = []
    option = ""  # whose value comes next
    for arg in args:
        name, equals, value = arg.partition("=")
        if name in LISTS and not value.startswith("["):
            lists.setdefault(name, []).extend([value] if equals else [])
            option = name
        elif arg.startswith("--"):
            rest.append(arg)
            option = "" if equals else name
        elif option in LISTS:
            lists[option].append(arg)
        elif rest[:1] in (["merge"], ["probe"]) and not option:
            lists.setdefault("", []).append(arg)
        else:
            rest.append(arg)
            option = ""
    stores = [json.dumps(lists.pop(""))] if "" in lists else []
    return [*rest[:1], *stores, *rest[1:], *(f"{name}={json.dumps(values)}" for name, values in lists.items())]

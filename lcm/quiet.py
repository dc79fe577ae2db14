"""What libraries tell of themselves is kept from the user of a command."""

import logging
import warnings

UNCONCERNING = (
    r".*is an instance of `nn.Module` and is already saved.*",  # on purpose: a checkpoint rebuilds itself
    r".*loading a checkpoint outside the 'fit' stage.*",  # the checkpoint's weights are the average already
    r".*callbacks used to create the checkpoint need to be provided.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*smaller than the logging interval.*",
    r".*does not have many workers.*",  # the store is memory-mapped
    r".*exists and is not empty.*",
    r".*n-gram constraints only to newly generated tokens.*",  # the prompt may be repeated
)


def quiet() -> None:
    """Leave out tips, hardware that is not there, progress of small steps, and warnings that do not concern a user."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in UNCONCERNING:
        warnings.filterwarnings("ignore", message)

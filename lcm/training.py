"""Lightning's command line for concept models and decoders."""

import data.module
import decoders.module
import decoders.task
import lcm.backbone
import lcm.callbacks
import lcm.diffusion
import lcm.heads.regression
import lcm.heads.two_tower
import lcm.model
import lcm.task  # noqa: F401  # imported so that a yaml may name the classes bare
from data.store import ConceptStore
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from omegaconf import OmegaConf


def read_from_store(attribute: str, path: str) -> int | str:
    """Return what a yaml asks of a store: ${store:dim,PATH}, ${store:encoder,PATH} or ${store:encoder_name,PATH}.

    A configuration names the store once; the width of a concept and the encoder follow from it.
    """
    if attribute not in ("dim", "encoder", "encoder_name"):
        raise ValueError(f"a store tells its dim, encoder and encoder_name, not {attribute!r}")
    if not path:
        raise ValueError("name the store that lcm encode wrote: --data.store STORE")
    return getattr(ConceptStore.open(path), attribute)


def ema_decay(max_steps: int) -> float:
    """Return the decay of an exponential average over about the last tenth of a run: ${ema_decay:MAX_STEPS}."""
    return max(0.0, 1 - 10 / max_steps) if max_steps > 0 else 0.999


def run(args: list[str] | None) -> None:
    """Run fit, validate, test or predict."""
    OmegaConf.register_new_resolver("store", read_from_store, replace=True)
    OmegaConf.register_new_resolver("ema_decay", ema_decay, replace=True)
    LightningCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"parser_mode": "omegaconf+"},
        args=args,
    )

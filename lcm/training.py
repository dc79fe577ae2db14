"""Lightning's command line for concept models and decoders."""

from collections.abc import Sequence

from lightning import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from omegaconf import OmegaConf

from data.mixture import open_stores
from data.module import ConceptDataModule
from data.texts_module import TextDataModule
from decoders.codec import CodecTask
from decoders.codec_export import CodecExport
from decoders.correction import CorrectionTask
from decoders.module import SentenceDataModule
from decoders.small import SmallDecoder
from decoders.task import DecoderTask
from lcm.callbacks import AveragedWeights, Checkpoints, FitConfig, PredictionFile
from lcm.heads.contrastive import ContrastiveHead
from lcm.heads.energy import EnergyHead
from lcm.heads.flow import FlowHead
from lcm.heads.flow_two_tower import FlowTwoTowerHead
from lcm.heads.quantised import QuantisedContinuousHead, QuantisedHead
from lcm.heads.regression import RegressionHead
from lcm.heads.two_tower import TwoTowerHead
from lcm.heads.with_contrast import WithContrast
from lcm.one_tower import OneTowerModel
from lcm.quiet import quiet
from lcm.retention import RetentiveTransformer
from lcm.schedule import WarmupCosine
from lcm.task import LCMTask
from lcm.together import Together
from lcm.token_task import TokenTask
from lcm.whitening import WhiteningNormalizer

# What a yaml may name without its module.
NAMED = (
    ConceptDataModule,
    SentenceDataModule,
    TextDataModule,
    LCMTask,
    DecoderTask,
    SmallDecoder,
    CodecTask,
    CorrectionTask,
    TokenTask,
    ContrastiveHead,
    EnergyHead,
    FlowHead,
    FlowTwoTowerHead,
    QuantisedContinuousHead,
    QuantisedHead,
    RegressionHead,
    RetentiveTransformer,
    TwoTowerHead,
    WithContrast,
    WhiteningNormalizer,
    OneTowerModel,
    WarmupCosine,
    AveragedWeights,
    Checkpoints,
    CodecExport,
    PredictionFile,
)


ASKED = ("dim", "encoder", "encoder_name", "heading_levels")  # what a yaml may ask of a store


def read_from_store(attribute: str, paths: str | Sequence[str]) -> int | str | list[int]:
    """Return what a yaml asks of its store, as in ${store:dim,PATH}, or of several of one encoder.

    A configuration names the stores once; the width of a concept and the encoder follow from them.
    """
    if attribute not in ASKED:
        raise ValueError(f"a store tells its {', '.join(ASKED)}, not {attribute!r}")
    stores = open_stores(paths)
    if attribute == "heading_levels":
        return sorted({level for store in stores for level in store.heading_levels})
    return getattr(stores[0], attribute)  # the same of all: they have one encoder


def ema_decay(max_steps: int) -> float:
    """Return the decay of an exponential average over about the last tenth of a run: ${ema_decay:MAX_STEPS}."""
    return max(0.0, 1 - 10 / max_steps) if max_steps > 0 else 0.999


class ConceptCLI(LightningCLI):
    """LightningCLI in which a resumed training obeys its configuration.

    Lightning's puts the checkpoint's hyper-parameters over yaml and flags, silently. That is right for measuring, where
    the checkpoint says what it is, and wrong for going on with more steps or another rate.
    """

    def _parse_ckpt_path(self) -> None:
        if self.config.get("subcommand") != "fit":
            super()._parse_ckpt_path()


def run(args: list[str] | None) -> None:
    """Run fit, validate, test or predict."""
    quiet()
    OmegaConf.register_resolver("store", read_from_store, replace=True)
    OmegaConf.register_resolver("ema_decay", ema_decay, replace=True)
    together = Together()
    with together.ending():
        ConceptCLI(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=FitConfig,
            save_config_kwargs={"save_to_log_dir": False, "overwrite": True},
            parser_kwargs={"parser_mode": "omegaconf+"},
            trainer_defaults={"callbacks": together},
            args=args,
        )

"""What several processes need in order to train as one: an equal start, a loss over all targets, shards of weights."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import Strategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

FORWARD = ("loss", "estimate", "predict", "predict_next")  # what is called from outside, beside forward()


def share_of_targets(num: Tensor) -> Tensor:
    """Return a process's number of targets over the mean number of all processes, a scalar; 1 where there is one.

    Each process has the mean loss of its own targets, and gradients are averaged over processes. Multiplied by this,
    the average is the mean over the targets of all, as one process would have it; rows differ in their number.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return torch.ones((), device=num.device)
    total = num.float()  # a copy: all_reduce works in place
    dist.all_reduce(total)
    return num * dist.get_world_size() / total.clamp_min(1)


def fit_once(model: nn.Module, fit: Callable[[], None], strategy: Strategy) -> None:
    """Let the first process measure, and give its buffers to all others."""
    if strategy.is_global_zero:
        fit()
    measured = strategy.broadcast(dict(model.named_buffers()) if strategy.is_global_zero else {})
    for name, buffer in model.named_buffers():
        buffer.copy_(measured[name])


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Spread weights, gradients and optimiser state of a concept model over a mesh, by FSDP2; twice is as once.

    Each block of the backbone is gathered for its own forward and backward pass, all else (input, levels, head) for the
    whole of the loss. Heads call their layers by other methods than forward(), so they are one unit.

    Args:
        model: concept model with a `backbone` of `blocks`.
        mesh: of Lightning's ModelParallelStrategy, axes "data_parallel" and "tensor_parallel".
    """
    if isinstance(model, FSDPModule):
        return
    if mesh["tensor_parallel"].size() > 1:
        raise ValueError(
            f"a concept model is sharded, not split into parts of a layer; set the strategy's data_parallel_size to "
            f"{mesh.size()}, the number of all processes, and tensor_parallel_size to 1"
        )
    scalars = [name for name, parameter in model.named_parameters() if parameter.ndim == 0]
    if scalars:
        raise ValueError(f"{scalars[0]} is one number, which cannot be sharded; train this model with configs/ddp.yaml")
    # Blocks return keys and values, which are views; nothing writes to them.
    warnings.filterwarnings("ignore", r".*FSDP2-wrapped module .* returned a view tensor.*")
    for block in model.backbone.blocks:  # type: ignore[union-attr]
        fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(model, mesh=mesh["data_parallel"])
    for name in FORWARD:
        register_fsdp_forward_method(model, name)


def is_sharded(module: nn.Module) -> bool:
    """Return whether weights of a module are spread over processes."""
    return any(isinstance(part, FSDPModule) for part in module.modules())


def local(module: nn.Module) -> Any:
    """Return the module itself, or, if it is sharded, this process's part of its parameters, which shares memory.

    Lightning's averaging asks for a LightningModule and takes its parameters alone, which both have.
    """
    if not is_sharded(module):
        return module
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()  # behind a forward pass without a backward pass the weights are still gathered
    shards = (p.to_local() for p in module.parameters() if isinstance(p, DTensor))
    return nn.ParameterList(nn.Parameter(part.detach(), requires_grad=False) for part in shards)

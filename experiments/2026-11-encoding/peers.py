"""ONNX Runtime and OpenVINO in sentence-transformers' own loop, in place of its transformer.

Its own backends for them need optimum, which does not install beside this transformers.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

NAMES = ("input_ids", "attention_mask", "token_type_ids")


class _Hidden(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> Any:
        return self.model(input_ids, attention_mask, token_type_ids).last_hidden_state


def _replace(model: SentenceTransformer, run: Callable[[list[np.ndarray]], np.ndarray]) -> Callable[..., np.ndarray]:
    def forward(features: dict[str, torch.Tensor], **_: Any) -> dict[str, torch.Tensor]:
        hidden = run([features[name].numpy() for name in NAMES])
        return features | {"token_embeddings": torch.from_numpy(np.asarray(hidden))}

    model[0].forward = forward
    return model.encode


def _example(model: SentenceTransformer) -> tuple[torch.Tensor, ...]:
    features = model.tokenizer(["One sentence.", "And another one."], padding=True, return_tensors="pt")
    return tuple(features[name] for name in NAMES)


def onnx_encoder(model: SentenceTransformer, threads: int) -> Callable[..., np.ndarray]:
    import onnxruntime
    import onnxscript  # noqa: F401, what the export needs

    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        module = _Hidden(model[0].auto_model).eval()
        torch.onnx.export(
            module, _example(model), path, input_names=NAMES, dynamic_shapes=(axes,) * 3, dynamo=True, verbose=False
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return _replace(model, lambda inputs: session.run(None, dict(zip(NAMES, inputs, strict=True)))[0])


def openvino_encoder(model: SentenceTransformer, threads: int) -> Callable[..., np.ndarray]:
    import openvino

    converted = openvino.convert_model(_Hidden(model[0].auto_model).eval(), example_input=_example(model))
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(converted, "CPU", settings)
    request = compiled.create_infer_request()
    return _replace(model, lambda inputs: request.infer(inputs)[0].copy())

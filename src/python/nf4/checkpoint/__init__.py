"""Checkpoints in safetensors whose linear layers are NF4, as transformers and bitsandbytes load them.

    nf4.checkpoint.quantize("model", "model-nf4")            # folder to folder, or file to file
    packed = nf4.checkpoint.open("model-nf4")
    for layer in nf4.checkpoint.layers(packed):
        weight = nf4.checkpoint.weight(packed, layer)        # an nf4.Weight

docs/reference/format.md tells the keys of a layer.
"""

from .quantization import Quantization, quantize
from .reading import open
from .safetensors import FileError
from .selection import quantization_config
from .state import Layer, error, grouped, layers, weight

__all__ = [
    "FileError",
    "Layer",
    "Quantization",
    "error",
    "grouped",
    "layers",
    "open",
    "quantization_config",
    "quantize",
    "weight",
]

"""vLLM without a GPU: its model classes and weight loaders, no kernel, and every question to a quantization recorded.

To be imported before anything else of vLLM."""

import importlib
import logging
import os
import sys
import types

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.update(HF_HUB_OFFLINE="1", VLLM_CPU_KVCACHE_SPACE="1", VLLM_PLUGINS="", VLLM_NO_USAGE_STATS="1")
import absent  # noqa: F401
import torch
import vllm.platforms as platforms
import vllm.utils.flashinfer as flashinfer
from vllm.platforms.cpu import CpuPlatform

logging.disable(logging.WARNING)
platforms._current_platform = CpuPlatform()
flashinfer.has_flashinfer = lambda: False
torch.set_num_threads(1)
LIBRARY = torch.library.Library("_C", "FRAGMENT")
for name in (
    "silu_and_mul",
    "gelu_and_mul",
    "gelu_tanh_and_mul",
    "gelu_new",
    "gelu_fast",
    "gelu_quick",
    "mul_and_silu",
    "fatrelu_and_mul",
    "swigluoai_and_mul",
):
    try:
        LIBRARY.define(f"{name}(Tensor! out, Tensor x) -> ()")
    except Exception:
        pass

import vllm.model_executor.layers.quantization.base_config as base_config

ASKED = []  # (layer, prefix, method) of every layer that a quantization was asked for
NAMES = None  # the names looked up while one layer asks
ask = base_config.resolve_quant_method


class Quantized:
    """Stands for any method of a quantization, and for what only runs on a GPU."""

    def __init__(self, *arguments, **named):
        pass


def recorded(quant_config, layer, prefix):
    """Asks as vLLM does, keeps the answer and builds the layer unquantized."""
    global NAMES
    from vllm.model_executor.layers.fused_moe import RoutedExperts
    from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod
    from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod

    NAMES, error = [], None
    try:
        if isinstance(quant_config, online.OnlineQuantizationConfig):
            method = quant_config.resolve_quant_method_cls(type(layer), prefix)
        else:
            method = ask(quant_config, layer, prefix)
    except Exception as problem:
        method, error = None, f"{type(problem).__name__}: {problem}"
    quantized = (
        error is None
        and method is not None
        and "Unquantized" not in type(method).__name__
        and "KVCache" not in type(method).__name__
    )
    ASKED.append({"layer": layer, "prefix": prefix, "quantized": quantized, "names": NAMES, "error": error})
    NAMES = None
    if isinstance(layer, RoutedExperts):
        return UnquantizedFusedMoEMethod(layer.moe_config)
    return UnquantizedLinearMethod() if isinstance(layer, LinearBase) else None


import vllm.model_executor.layers.attention.mla_attention as mla
import vllm.model_executor.layers.fused_moe.config as moe_config
import vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method as unquantized_moe
import vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors as tensors
import vllm.model_executor.layers.quantization.fp8 as fp8
import vllm.model_executor.layers.quantization.online.base as online
import vllm.model_executor.models.registry as registry
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe import (
    compressed_tensors_moe as tensors_moe,
)
from vllm.triton_utils import triton

registry._run_in_subprocess = lambda call: call()
registry._LazyRegisteredModel.inspect_model_cls = lambda self: registry._ModelInfo.from_model_cls(self.load_model_cls())


# Modules that took the function by name before now, and those yet to come.
for module in list(sys.modules.values()):
    if getattr(module, "resolve_quant_method", None) is ask:
        module.resolve_quant_method = recorded


class EveryPlatform:
    """Experts without a gate are refused on a CPU only."""

    def __getattr__(self, name):
        return (
            (lambda *a, **k: True)
            if name in ("is_cuda_alike", "is_xpu")
            else getattr(platforms._current_platform, name)
        )


attention = CpuPlatform.get_attn_backend_cls


def dense_attention(cls, selected_backend, attn_selector_config, num_heads=None):
    """Sparse attention has no backend on a CPU: the dense one stands in, none runs."""
    if attn_selector_config.use_sparse:
        attn_selector_config = attn_selector_config._replace(use_sparse=False)
    return attention(selected_backend, attn_selector_config, num_heads)


CpuPlatform.get_attn_backend_cls = classmethod(dense_attention)
mla_init = mla.MLACommonImpl.__init__


def without_sparse(self, *arguments, topk_indices_buffer=None, index_group_builder=None, indexer=None, **named):
    """The dense stand-in, made with what a sparse one is given."""
    mla_init(self, *arguments, **named)


mla.MLACommonImpl.__init__ = without_sparse
if hasattr(moe_config, "current_platform"):
    moe_config.current_platform = EveryPlatform()
for name in dir(unquantized_moe):
    if name.startswith("select_unquantized"):
        setattr(unquantized_moe, name, lambda *a, **k: (None, None))
fp8.Fp8LinearMethod = fp8.Fp8MoEMethod = Quantized
tensors.CompressedTensorsConfig._get_scheme_from_parts = lambda self, **k: types.SimpleNamespace(
    get_min_capability=lambda: 0
)
tensors.CompressedTensorsConfig._check_scheme_supported = staticmethod(lambda *a, **k: True)
tensors.CompressedTensorsLinearMethod = Quantized


def noting(function, key):
    """The function, with the name that it is asked for put down."""

    def asked(*arguments, **named):
        name = named.get(key) or (arguments[0] if arguments else None)
        if NAMES is not None and isinstance(name, str) and name not in NAMES:
            NAMES.append(name)
        return function(*arguments, **named)

    return asked


def moe_method(quant_config, layer, layer_name):
    """What CompressedTensorsMoEMethod.get_moe_method asks, without the kernels it chooses among."""
    quant_config._add_fused_moe_to_target_scheme_map()
    names = [
        f"{layer_name}.0.{name}"
        for name in (layer.ckpt_gate_proj_name, layer.ckpt_up_proj_name, layer.ckpt_down_proj_name)
    ]
    found = [quant_config.get_scheme_dict(layer, name) for name in names]
    if any(one != found[0] for one in found):
        raise ValueError("the projections of one layer have different schemes")
    return Quantized() if found[0] is not None else None


fp8.is_layer_skipped = noting(fp8.is_layer_skipped, "prefix")
tensors.should_ignore_layer = noting(tensors.should_ignore_layer, "layer_name")
tensors_moe.CompressedTensorsMoEMethod.get_moe_method = staticmethod(moe_method)
if not hasattr(triton, "set_allocator"):
    triton.set_allocator = lambda *a: None


def entries_of_cuda():
    """Families that are implemented once for each platform: what a GPU of NVIDIA runs, in place of the CPU's."""
    for family in ("deepseek_v32", "deepseek_v4"):
        entry = importlib.import_module(f"vllm.models.{family}")
        for part in ("model", "mtp"):
            module = importlib.import_module(f"vllm.models.{family}.nvidia.{part}")
            for name in entry.__all__:
                if hasattr(module, name):
                    setattr(entry, name, getattr(module, name))
        if hasattr(entry, "GlmMoeDsaForCausalLM"):
            entry.GlmMoeDsaForCausalLM = entry.DeepseekV32ForCausalLM
    # Its attention is built only where FlashAttention is there to run.
    importlib.import_module("vllm.models.qwen4_exp.nvidia.model")
    qsa = importlib.import_module("vllm.models.qwen4_exp.nvidia.qsa")
    qsa.is_flash_attn_varlen_func_available = lambda: True
    # How the device wants its scales.
    importlib.import_module("vllm.models.deepseek_v4.nvidia.flashmla").compute_fp8_einsum_recipe = lambda: (None, False)


# Streams are made on building and used on serving.
torch.cuda.Stream = torch.cuda.Event = Quantized
entries_of_cuda()

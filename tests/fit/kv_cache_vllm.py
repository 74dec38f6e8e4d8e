"""The sizes of a model's KV cache by vLLM's own planning, for `kv_cache.py`: one job at a time, each in a process."""

import traceback

import vllm_setup as setup  # noqa: F401  # before anything else of vLLM
import vllm_build as build
from forks import serve

import torch
from vllm.config import (
    CacheConfig,
    CompilationConfig,
    DeviceConfig,
    LoadConfig,
    ModelConfig,
    SchedulerConfig,
    VllmConfig,
    set_current_vllm_config,
)
from vllm.config.vllm import get_layers_from_vllm_config
from vllm.distributed import parallel_state
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.platforms.cpu import CpuPlatform
from vllm.platforms.interface import Platform
from vllm.utils.torch_utils import set_default_torch_dtype
from vllm.v1.attention.backends.utils import get_supported_kv_cache_layouts, resolve_kv_cache_layout
from vllm.v1.core import kv_cache_planning as planning
from vllm.v1.core.kv_cache_utils import get_kv_cache_capacity
from vllm.v1.kv_cache_interface import get_kv_cache_spec_kind, iter_layer_specs
from vllm.v1.worker.gpu.attn_utils import get_kv_cache_spec


def backend(cls, selected_backend, attn_selector_config, num_heads=None):
    """The backend of a Hopper GPU, or what stands in for it."""
    name = "FlashAttention"
    if attn_selector_config.use_mla:
        name = "FlashMlaSparse" if attn_selector_config.use_sparse else "FlashAttentionMla"
    return f"kv_cache_backends.{name}"


CpuPlatform.get_attn_backend_cls = classmethod(backend)
# It would turn down what a CPU cannot do: types of the cache and of states, overlapping steps.
CpuPlatform.check_and_update_config = classmethod(lambda cls, config: None)


def configured(job):
    """vLLM's configuration of the folder, with the defaults of `vllm serve` on a GPU of less than 70 GiB."""
    model = ModelConfig(
        model=job["folder"],
        tokenizer=job["folder"],
        skip_tokenizer_init=True,
        dtype="bfloat16",
        enforce_eager=True,
    )
    return VllmConfig(
        model_config=model,
        device_config=DeviceConfig("cpu"),
        load_config=LoadConfig(),
        compilation_config=CompilationConfig(mode=0),
        cache_config=CacheConfig(cache_dtype=job["dtype"], enable_prefix_caching=model.is_prefix_caching_supported),
        scheduler_config=SchedulerConfig(
            max_model_len=model.max_model_len,
            is_encoder_decoder=model.is_encoder_decoder,
            max_num_batched_tokens=job["batched"],
            async_scheduling=True,
        ),
    )


def built(job):
    """The configuration and the model, as the first of `size` GPUs builds it."""
    config = configured(job)
    with set_current_vllm_config(config):
        build.started(config)
        parallel_state._TP.world_size = job["gpus"]
        config.parallel_config.tensor_parallel_size = job["gpus"]
        with set_default_torch_dtype(torch.bfloat16), torch.device(job.get("device", "meta")):
            model = initialize_model(vllm_config=config)
    return config, model


def sizes(job):
    """What one GPU of `size` holds, and what its cache takes."""
    asked = {"gpus": job["gpus"], "dtype": job["dtype"]}
    try:
        return {**asked, **sized(job)}
    except Exception as error:
        traceback.print_exc()
        return {**asked, "error": build.first_line(error), "where": build.where(error)}


def sized(job):
    config, model = built(job)
    out = {"weights": weights_of(model), "max_model_len": config.model_config.max_model_len}
    Platform.update_block_size_for_backend.__func__(CpuPlatform, config)
    layers = get_layers_from_vllm_config(config, AttentionLayerBase)
    specs = get_kv_cache_spec(config)
    backends = list({layer.get_attn_backend() for name, layer in layers.items() if name in specs})
    names = [layout.name for layout in get_supported_kv_cache_layouts(backends)]
    layout = resolve_kv_cache_layout(config, [names], specs.values())
    groups = planning.get_global_kv_cache_groups(config, [specs])
    out["layout"] = layout.name
    out["in_flight"] = config.max_in_flight_tokens
    out["groups"] = [described(group) for group in groups]
    if not groups:
        return out
    out["bytes_per_block"] = planning._pool_bytes_per_block(config, groups)
    builder = planning.DefaultKVCacheConfigBuilder()
    out["asked"] = []
    for budget in job["budgets"]:
        for context in job["contexts"]:
            config.model_config.max_model_len = context
            blocks = budget // out["bytes_per_block"]
            if blocks == 0:
                continue
            cache = builder.get_kv_cache_config_from_groups(config, groups, blocks)
            tokens, concurrency = get_kv_cache_capacity(config, cache)
            config.model_config.max_model_len = 1 << 20
            usable = budget - out["bytes_per_block"]
            longest = planning._estimate_max_model_len_from_groups(builder, config, groups, usable)
            out["asked"].append(
                {
                    "bytes": budget,
                    "context": context,
                    "blocks": cache.num_blocks,
                    "tokens": tokens,
                    "requests": round(concurrency, 6),
                    "longest": longest,
                }
            )
    return out


def weights_of(model):
    """Bytes of all parameters, each counted once."""
    parameters = {id(parameter): parameter for parameter in model.parameters()}
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters.values())


def described(group):
    """A group of layers: of each kind how many, and what a page of it takes."""
    kinds = {}
    specs = list(iter_layer_specs(group.kv_cache_spec))
    specs = specs if len(specs) > 1 else specs * len(group.layer_names)
    for spec in specs:
        key = (get_kv_cache_spec_kind(spec).value, spec.block_size, spec.page_size_bytes)
        kinds[key] = kinds.get(key, 0) + 1
    return [{"kind": k, "block": b, "page": p, "layers": n} for (k, b, p), n in kinds.items()]


def weights(job):
    """What one GPU of `gpus` holds of the weights."""
    _, model = built({"dtype": "auto", "batched": 2048, **job})
    return {"weights": weights_of(model)}


if __name__ == "__main__":
    serve({"sizes": sizes, "weights": weights})

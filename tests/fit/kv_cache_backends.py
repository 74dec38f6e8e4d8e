"""Attention backends that stand in for those of NVIDIA GPUs: the sizes of blocks that those take, and no kernel."""

from vllm.v1.attention.backend import MultipleOf
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend


class Anything:
    """An implementation that is made and never run."""

    def __init__(self, *arguments, **named):
        pass

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return False


class FlashAttention(CPUAttentionBackend):
    """FLASH_ATTN: blocks of 16 tokens and multiples of it, in any layout."""

    @staticmethod
    def get_name():
        return "FLASH_ATTN"

    @staticmethod
    def get_impl_cls():
        return Anything

    @classmethod
    def get_supported_kernel_block_sizes(cls, kv_cache_spec=None):
        return [MultipleOf(16)]

    @classmethod
    def get_preferred_block_size(cls, default_block_size):
        return default_block_size

    @classmethod
    def supported_kv_cache_layouts(cls):
        return None

    @classmethod
    def customize_spec(cls, spec):
        return spec


class FlashAttentionMla(FlashAttention):
    """FLASH_ATTN_MLA, which takes the same blocks."""

    @staticmethod
    def get_name():
        return "FLASH_ATTN_MLA"

    @classmethod
    def is_mla(cls):
        return True


class FlashMlaSparse(FlashAttentionMla):
    """FLASHMLA_SPARSE: blocks of 64 tokens, and an FP8 cache in its own form."""

    @staticmethod
    def get_name():
        return "FLASHMLA_SPARSE"

    @classmethod
    def get_supported_kernel_block_sizes(cls, kv_cache_spec=None):
        return [MultipleOf(64)]

    @classmethod
    def get_preferred_block_size(cls, default_block_size):
        return 64

    @classmethod
    def is_sparse(cls):
        return True

"""How published files name the layers that predict further tokens, which transformers does not build."""

# How the draft layers of a class are named on disk.
NEXT_LAYER = {"DeepSeekMTP", "DeepseekV32MTP", "Glm4MoeMTP", "Glm4MoeLiteMTP", "GlmOcrMTP", "HYV3MTP", "OpenPanguMTP"}
OWN_STACK = {"Qwen3NextMTP", "Qwen3_5MTP", "Qwen3_5MoeMTP"}


def draft_tensors(cls, raw, disk):
    """The draft layers' tensors as the published checkpoints name them, made from the last layer of the model."""
    text = raw.get("text_config") if isinstance(raw.get("text_config"), dict) else raw
    hidden, layers = text["hidden_size"], text["num_hidden_layers"]
    stack = "model.language_model." if any(name.startswith("model.language_model.") for name in disk) else "model."
    last = f"{stack}layers.{layers - 1}."
    copied = {name[len(last) :]: shape for name, shape in disk.items() if name.startswith(last)}
    if cls in NEXT_LAYER:
        new = f"{stack}layers.{layers}."
        own = {
            "eh_proj.weight": [hidden, 2 * hidden],
            "enorm.weight": [hidden],
            "hnorm.weight": [hidden],
            "shared_head.norm.weight": [hidden],
        }
        own.update(
            {
                "shared_head.head.weight": disk["lm_head.weight"],
                "embed_tokens.weight": disk[f"{stack}embed_tokens.weight"],
            }
            if "lm_head.weight" in disk
            else {}
        )
        return {new + name: shape for name, shape in {**copied, **own}.items()}
    if cls in OWN_STACK:
        own = {f"{name}.weight": [hidden] for name in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm")}
        return {
            **{f"mtp.layers.0.{name}": shape for name, shape in copied.items()},
            "mtp.fc.weight": [hidden, 2 * hidden],
            **{f"mtp.{name}": shape for name, shape in own.items()},
        }
    return {}

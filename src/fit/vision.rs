//! What images take: patches in the tower, and tokens in the context.

use serde_json::Value;

use super::subject::FitSubject;

/// Patches that are assumed where nothing says how large an image may be: 1,024 pixels by 1,024 in patches of 16.
const ASSUMED_PATCHES: u64 = 4096;

/// The images that a model sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    /// The patches of the largest image that the processor lets through.
    pub(super) patches: u64,
    /// The tokens that it takes in the context.
    pub(super) tokens: u64,
    /// Bytes per patch while the tower computes one of its layers.
    pub(super) bytes_per_patch: u64,
    /// False where the size of images is assumed.
    pub(super) is_told: bool,
    pub(super) has_video: bool,
    pub(super) has_audio: bool,
}

impl Sight {
    /// Returns what is known of the images of a model, `None` where it has no vision tower.
    pub(super) fn of(subject: &FitSubject<'_>) -> Option<Self> {
        let at = |path: &[&str]| subject.config.value(path);
        let outer: &[&str] = if at(&["thinker_config"]).is_some() { &["thinker_config"] } else { &[] };
        let top = |key: &str| at(&[outer, &[key]].concat());
        let vision = top("vision_config").filter(Value::is_object)?;
        let number = |keys: &[&str]| {
            keys.iter().find_map(|key| vision.get(*key)?.as_u64()).filter(|number| (1..1 << 24).contains(number))
        };
        let patch = number(&["patch_size", "spatial_patch_size"]).unwrap_or(16);
        let merge = number(&["spatial_merge_size", "merge_size"]).unwrap_or(1);
        let by_pixels = subject.preprocessor.as_ref().and_then(most_pixels).map(|pixels| pixels / (patch * patch));
        let by_size = number(&["image_size"]).map(|side| (side / patch).pow(2));
        let told = by_pixels.or(by_size).filter(|patches| *patches > 0);
        let patches = told.unwrap_or(ASSUMED_PATCHES);
        let tokens = ["mm_tokens_per_image", "image_seq_length", "vision_soft_tokens_per_image"]
            .iter()
            .find_map(|key| top(key)?.as_u64())
            .unwrap_or_else(|| patches.div_ceil(merge * merge));
        let hidden = number(&["hidden_size", "vt_hidden_size", "embed_dim"]).unwrap_or(1152);
        let inner = number(&["intermediate_size", "vt_intermediate_size"]).unwrap_or(4 * hidden);
        Some(Self {
            patches,
            tokens: tokens.max(1),
            // The residual, then queries, keys, values and what they make, or both sides of the activation.
            bytes_per_patch: 2 * (2 * hidden + (4 * hidden).max(2 * inner)),
            is_told: told.is_some(),
            has_video: ["video_token_id", "video_token_index"].iter().any(|key| top(key).is_some()),
            has_audio: top("audio_config").is_some_and(|value| value.is_object()),
        })
    }
}

/// The pixels of the largest image by `preprocessor_config.json`.
fn most_pixels(preprocessor: &Value) -> Option<u64> {
    let direct = preprocessor.get("max_pixels").and_then(Value::as_u64);
    // In the processors of Qwen this is a number of pixels, whatever it is called.
    let edge = || preprocessor.get("size")?.get("longest_edge")?.as_u64();
    direct.or_else(|| edge().filter(|pixels| *pixels > 1 << 16)).filter(|pixels| *pixels < 1 << 40)
}

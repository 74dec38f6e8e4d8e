//! The drafted recipe, with what each step down cost and what uniform recipes come to.

use crate::fit::Fit;

/// A recipe by budget.
#[derive(Debug)]
pub struct BudgetDraft {
    /// The text of the recipe.
    pub recipe: String,
    /// Whether it fits, and how it is served.
    pub fit: Fit,
    /// The SQNR of all layers that may be quantized: each weight's noise over signal, by its elements; `None` where nothing
    /// is lost.
    pub sqnr_db: Option<f64>,
    /// The steps down that led to the mixed recipe, in the order in which they were taken first.
    pub steps: Vec<StepDown>,
    /// Recipes of one scheme, from the largest to the smallest.
    pub uniform: Vec<UniformRecipe>,
    /// The uniform recipe that was drafted, where no mixed one loses less.
    pub nothing_gained_over: Option<String>,
}

/// Steps of layers of one kind from one scheme to another.
#[derive(Clone, Debug)]
pub struct StepDown {
    /// The layer as servers have it, with `*` for numbers, such as `model.layers.*.self_attn.qkv_proj`.
    pub layers: String,
    /// The number of fused layers and layers that stand alone.
    pub sets: usize,
    pub from: String,
    pub to: String,
    /// Bytes before and after.
    pub bytes: [u64; 2],
    /// SQNR before and after; `None` where nothing is lost.
    pub sqnr_db: [Option<f64>; 2],
}

/// A recipe of one scheme for all layers that take it; the others stay unquantized.
#[derive(Clone, Debug)]
pub struct UniformRecipe {
    pub scheme: String,
    /// Bytes of weights on each GPU.
    pub weights: u64,
    pub sqnr_db: Option<f64>,
    pub fits: bool,
}

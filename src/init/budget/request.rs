//! What a recipe by budget is drafted for.

use crate::fit::FitRequest;
use crate::init::request::Request;

/// What a recipe is to fit, and where it is to run.
#[derive(Clone, Debug)]
pub struct BudgetRequest {
    pub draft: Request,
    /// The GPUs, and what is to be served on them.
    pub fit: FitRequest,
    /// The server whose kernels are to run it: `vLLM`, `SGLang` or `transformers`.
    pub server: &'static str,
    /// The generation of the GPUs; `None` takes what every generation has kernels for.
    pub generation: Option<&'static str>,
    /// The `preprocessor_config.json` of a model that sees images, where there is one.
    pub preprocessor: Option<serde_json::Value>,
}

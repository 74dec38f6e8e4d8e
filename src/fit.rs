//! Fit: whether a model fits GPUs of some size, for how much context and how many requests, and how it is served there.
//!
//! Nothing of the weights is read: headers, `config.json` and, of a recipe, its plan say all of it.

mod answer;
mod budget;
mod cache;
mod context;
mod error;
mod figures;
mod kernels;
mod lines;
mod pool;
mod remedies;
mod request;
mod subject;
mod vision;
mod weights;

pub use answer::{CacheFit, Fit};
pub use budget::{MemoryBudget, MemoryEstimate};
pub use cache::{CacheDtype, CacheGroup, CachePool};
pub use error::CacheUnknown;
pub use kernels::GpuKernels;
pub use lines::ServeLine;
pub use pool::pool;
pub use request::FitRequest;
pub use subject::FitSubject;
pub use weights::WeightBytes;

pub(crate) use kernels::has_kernels;

use figures::ConfigFigures;
use lines::ServedContext;
use pool::pool_for;
use vision::Sight;

/// The context that is looked at where neither the request nor config.json gives one.
const CONTEXT: u64 = 8192;

impl Fit {
    /// Answers a request for a model that is served from `path`.
    pub fn of(subject: &FitSubject<'_>, request: &FitRequest, path: &str) -> Self {
        let cache_dtype = if request.cache_dtype == CacheDtype::Auto { subject.cache } else { request.cache_dtype };
        let request = &FitRequest { cache_dtype, ..*request };
        let figures = ConfigFigures::of(subject.config, subject.model);
        let sight = Sight::of(subject);
        let weights = WeightBytes::of(subject, request.gpus);
        let model_context = context::of_model(&figures);
        let pool = pool_for(subject, request, request.cache_dtype);
        let sized = |requests| budget::budget(&figures, sight.as_ref(), request, weights.per_gpu, requests);
        let most = budget::most_requests(request.vram);
        let limit = request.context.or(model_context.filter(|context| *context > 0)).unwrap_or(CONTEXT);
        let mut fit = Self {
            fits: false,
            family: subject.model.family().map(str::to_owned),
            vram: request.vram,
            gpus: request.gpus,
            weights,
            budget: sized(request.concurrency.unwrap_or(1)),
            cache: None,
            cache_not_known: None,
            misfit: subject.served.misfit.clone(),
            model_context,
            longest_context: None,
            context: limit,
            requests: request.concurrency.unwrap_or(1),
            serve: Vec::new(),
            kernels: kernels::of_forms(&subject.served.forms),
            notes: Vec::new(),
            remedies: Vec::new(),
        };
        match pool {
            // There is nothing to count where the model cannot be shared.
            _ if fit.misfit.is_some() => {}
            Ok(Some(pool)) => fit.with_pool(pool, request, most, &sized),
            // What keeps no cache runs as many requests as vLLM lets it.
            Ok(None) => {
                fit.requests = request.concurrency.unwrap_or(most);
                fit.budget = sized(fit.requests);
                fit.fits = fit.budget.missing == 0;
            }
            Err(unknown) => {
                fit.cache_not_known = Some(unknown.to_string());
                fit.fits = fit.budget.missing == 0 && fit.budget.cache > 0;
            }
        }
        fit.fits &= !fit.is_beyond_model();
        fit.notes = remedies::notes(subject, request, &fit, sight.as_ref());
        if fit.fits {
            let (context, requests) = (fit.context, fit.requests);
            let lines = lines::lines(&ServedContext { path, request, context, requests, sight: sight.as_ref() });
            fit.serve = lines.into_iter().filter(|line| !subject.unserved.contains_key(line.server)).collect();
        } else {
            fit.remedies = remedies::remedies(subject, request, &fit);
        }
        fit
    }

    /// What vLLM runs for the weights on a GPU of this compute capability; `None` where it has no kernels for such a GPU.
    pub fn runs_on(&self, major: u32, minor: u32) -> Option<&'static str> {
        self.kernels.get(kernels::row_of(major, minor)?).map(|kernels| kernels.runs)
    }

    /// Reports whether the context is longer than what the model has, with which vLLM does not start.
    pub fn is_beyond_model(&self) -> bool {
        self.model_context.is_some_and(|most| self.context > most)
    }

    /// Fills in context and requests.
    fn with_pool(&mut self, pool: CachePool, request: &FitRequest, most: u64, sized: &impl Fn(u64) -> MemoryBudget) {
        let limit = self.context;
        let of_model = self.model_context.filter(|context| *context > 0).unwrap_or(limit.max(CONTEXT));
        let one = pool.blocks(sized(1).cache);
        self.longest_context = Some(pool.longest(one, 1, of_model));
        self.context = match request.context {
            Some(context) => context,
            None => pool.longest(pool.blocks(sized(self.requests).cache), self.requests, limit),
        };
        self.requests = match request.concurrency {
            Some(requests) => requests,
            // More requests take more logits and graphs: the number that fits beside those of all of them.
            None => {
                let crowded = pool.requests(pool.blocks(sized(most).cache), self.context);
                crowded.max(pool.requests(one, self.context).min(1)).min(most)
            }
        };
        self.budget = sized(self.requests.max(1));
        let blocks = pool.blocks(self.budget.cache);
        self.fits = self.context > 0 && self.requests > 0 && pool.requests(blocks, self.context) >= self.requests;
        self.cache = Some(CacheFit {
            dtype: request.cache_dtype,
            groups: pool.groups.clone(),
            bytes_per_block: pool.bytes_per_block,
            blocks,
            tokens: pool.tokens(blocks, self.context.max(1)),
            bytes_per_request: pool.blocks_of_request(self.context).saturating_mul(pool.bytes_per_block),
            pool,
        });
    }
}

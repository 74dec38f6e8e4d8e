//! `qwen-fp8 init --fit`: the recipe that loses least of those that fit, and what each step down cost.

use qwen_fp8_schemes::Simd;

use super::apply;
use super::args::{BudgetArgs, GpuName, InitArgs, ServerName};
use super::error::CommandError;
use super::fit;
use super::interrupt::Interrupt;
use super::progress::ProgressReporter;
use super::proof::CancelledProgress;
use super::screen::Screen;
use super::source::need_weights_here;
use super::table::{Align, TextTable};
use super::undrafted::refused;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::text::{decibels, human, memory, shown_path, unquoted};
use crate::fit::{Fit, FitRequest, FitSubject};
use crate::init::{BudgetDraft, BudgetLayers, BudgetRequest, Request};
use crate::run::{MeasuredWeight, measure};

/// Drafts a recipe for GPUs with so many bytes of memory each, and reports what led to it.
///
/// # Errors
/// The weights cannot be read, there is nothing to quantize, or nothing fits.
pub(super) fn draft(
    checkpoint: &Checkpoint,
    vram: u64,
    args: &InitArgs,
    draft: Request,
    screen: &Screen,
) -> Result<String, CommandError> {
    if checkpoint.headers_only {
        let message = format!("{} holds headers alone: there are no weights to measure", shown_path(&checkpoint.dir));
        let help = "name the checkpoint itself; without `--fit`, `init` needs no more than headers";
        return Err(CommandError::Input(message).with_help(&[help.to_owned()]));
    }
    need_weights_here(checkpoint, "`--fit` measures the weights of the model")?;
    let request = request(vram, &args.budget, draft, checkpoint);
    // What no recipe changes is told before anything is measured.
    let as_it_is = Fit::of(&FitSubject::of_checkpoint(checkpoint, request.fit.gpus), &request.fit, "");
    if as_it_is.is_beyond_model() || as_it_is.misfit.is_some() {
        screen.say(fit::misfit(&as_it_is).trim_end());
        return Err(CommandError::Verdict(fit::DOES_NOT_FIT));
    }
    let layers = BudgetLayers::of(checkpoint, &request).map_err(|error| refused(&error, screen))?;
    let interrupt =
        Interrupt::listen().map_err(|error| CommandError::Run(format!("cannot listen for Ctrl-C: {error}")))?;
    let weights = layers.measured(&checkpoint.model).into_iter();
    let weights: Vec<MeasuredWeight<'_>> =
        weights.map(|(input, schemes, leader)| MeasuredWeight { input, schemes, leader }).collect();
    let workers = std::thread::available_parallelism().map_or(1, Into::into);
    let progress = ProgressReporter::of_check(screen);
    let cancellable = CancelledProgress { progress: &progress, cancel: &interrupt.cancel };
    let noise = measure(checkpoint, &weights, workers, Simd::detect(), &cancellable);
    drop(progress);
    let noise = noise.map_err(|error| apply::failure(&error, &interrupt, "no recipe was written"))?;
    drop(weights);
    let drafted = layers.draft(checkpoint, &noise, &request).map_err(|error| refused(&error, screen))?;
    screen.say(report(&drafted).trim_end());
    if drafted.fit.fits {
        return Ok(drafted.recipe);
    }
    screen.say(&format!(
        "\nthe smallest recipe does not fit, and is not written\n{}",
        fit::misfit(&drafted.fit).trim_end()
    ));
    Err(CommandError::Verdict(fit::DOES_NOT_FIT))
}

fn request(vram: u64, args: &BudgetArgs, draft: Request, checkpoint: &Checkpoint) -> BudgetRequest {
    BudgetRequest {
        draft,
        fit: FitRequest {
            vram,
            gpus: args.tensor_parallel,
            context: Some(args.context),
            concurrency: Some(args.concurrency),
            cache_dtype: args.kv_cache_dtype.into(),
        },
        server: match args.server {
            ServerName::Vllm => "vLLM",
            ServerName::Sglang => "SGLang",
            ServerName::Transformers => "transformers",
        },
        generation: args.gpu.map(|gpu| match gpu {
            GpuName::Turing => "Turing",
            GpuName::Ampere => "Ampere",
            GpuName::Ada => "Ada",
            GpuName::Hopper => "Hopper",
            GpuName::Blackwell => "Blackwell",
        }),
        preprocessor: fit::preprocessor(checkpoint),
    }
}

/// What each step down cost, and what recipes of one scheme come to.
fn report(draft: &BudgetDraft) -> String {
    let mut text = String::new();
    if !draft.steps.is_empty() {
        text.push_str("what each step down costs:\n");
        text.push_str(&steps(draft));
        text.push('\n');
    }
    text.push_str("recipes of one scheme:\n");
    text.push_str(&uniform(draft));
    text.push('\n');
    text.push_str(&outcome(draft));
    if let Some(why) = &draft.fit.cache_not_known {
        let why = unquoted(why);
        text.push_str(&format!("\nnot known how vLLM sizes its cache: {why}; context and requests are not checked"));
    }
    text
}

fn steps(draft: &BudgetDraft) -> String {
    let mut table = TextTable::new(&[
        ("layers", Align::Left),
        ("sets", Align::Right),
        ("from", Align::Left),
        ("to", Align::Left),
        ("bytes", Align::Right),
        ("then", Align::Right),
        ("SQNR", Align::Right),
        ("then", Align::Right),
    ]);
    for step in &draft.steps {
        let ([before, after], [exact, lossy]) = (step.bytes.map(human), step.sqnr_db.map(decibels));
        let sets = step.sets.to_string();
        let layers = unquoted(&step.layers).to_string();
        table.row([layers, sets, step.from.clone(), step.to.clone(), before, after, exact, lossy]);
    }
    table.render()
}

fn uniform(draft: &BudgetDraft) -> String {
    let mut table = TextTable::new(&[
        ("scheme", Align::Left),
        ("weights of a GPU", Align::Right),
        ("SQNR", Align::Right),
        ("", Align::Left),
    ]);
    for recipe in &draft.uniform {
        let fits = if recipe.fits { "fits" } else { "does not fit" };
        table.row([recipe.scheme.clone(), memory(recipe.weights), decibels(recipe.sqnr_db), fits.to_owned()]);
    }
    table.render()
}

fn outcome(draft: &BudgetDraft) -> String {
    let what = format!("{} in {} on each GPU", decibels(draft.sqnr_db), memory(draft.fit.weights.per_gpu));
    let fitting = draft.uniform.iter().filter(|recipe| recipe.fits);
    let best = fitting.max_by(|a, b| {
        let [a, b] = [a, b].map(|recipe| recipe.sqnr_db.unwrap_or(f64::INFINITY));
        a.total_cmp(&b)
    });
    match (&draft.nothing_gained_over, best) {
        (Some(_), _) if draft.sqnr_db.is_none() => {
            format!("the recipe: it fits without a loss, in {} on each GPU", memory(draft.fit.weights.per_gpu))
        }
        (Some(scheme), _) => format!("the recipe: {what}; nothing is gained over a uniform {scheme}, which it is"),
        (None, Some(best)) => format!(
            "the recipe: {what}; the best of one scheme that fits, {}, has {}",
            best.scheme,
            decibels(best.sqnr_db)
        ),
        (None, None) => format!("the recipe: {what}; none of one scheme fits"),
    }
}

//! `qwen-fp8 fit`: whether a model fits GPUs of a size, and the lines that serve it there.

use std::path::{Path, PathBuf};

use super::args::{CacheDtypeName, FitArgs, SourceArgs};
use super::error::CommandError;
use super::json::JsonOutput;
use super::next_steps::typed;
use super::screen::Screen;
use super::source::{open_checkpoint, plan};
use super::table::{Align, TextTable};
use crate::checkpoint::text::{count, exact, grouped, memory, unquoted};
use crate::checkpoint::{Checkpoint, is_headers_file};
use crate::fit::{CacheDtype, CacheFit, Fit, FitRequest, FitSubject};
use crate::recipe::RecipeText;

/// The exit code where it does not fit.
pub(super) const DOES_NOT_FIT: u8 = 5;

/// The largest `preprocessor_config.json` that is read, in bytes.
const MAX_PREPROCESSOR: u64 = 1 << 20;

/// The path of an output for which neither recipe nor command has one.
const NO_OUTPUT: &str = "OUTPUT";

impl JsonOutput for Fit {
    const TITLE: &'static str = "Output of `qwen-fp8 fit --json`";
}

impl From<CacheDtypeName> for CacheDtype {
    fn from(name: CacheDtypeName) -> Self {
        match name {
            CacheDtypeName::Auto => Self::Auto,
            CacheDtypeName::Fp8 => Self::Fp8,
        }
    }
}

pub(super) fn fit(args: &FitArgs, screen: &Screen) -> Result<(), CommandError> {
    say_if_decimal(args.vram, screen);
    let request = FitRequest {
        vram: args.vram,
        gpus: args.tensor_parallel,
        context: args.context,
        concurrency: args.concurrency,
        cache_dtype: args.kv_cache_dtype.into(),
    };
    let fit = if is_recipe(&args.subject) {
        let recipe = PathBuf::from(&args.subject);
        let source = SourceArgs { recipe, model: args.model.clone(), smoke: None };
        let plan = plan(&source, screen)?;
        let path = plan.recipe.output.clone().map_or_else(|| NO_OUTPUT.to_owned(), |output| shell_word(&output));
        let subject = FitSubject::of_plan(&plan, request.gpus).with_preprocessor(preprocessor(&plan.checkpoint));
        Fit::of(&subject, &request, &path)
    } else if args.model.is_some() {
        let message = format!("`--model` goes with a recipe, and {} is a checkpoint", unquoted(&args.subject));
        return Err(CommandError::Usage(message));
    } else {
        let checkpoint = open_checkpoint(&args.subject)?;
        let subject = FitSubject::of_checkpoint(&checkpoint, request.gpus).with_preprocessor(preprocessor(&checkpoint));
        Fit::of(&subject, &request, &shell_word(&args.subject))
    };
    if args.json {
        screen.json(&fit)?
    } else {
        report(&fit, screen)?
    }
    if fit.fits { Ok(()) } else { Err(CommandError::Verdict(DOES_NOT_FIT)) }
}

/// Says what a card has, where a size in decimal units is given for it.
pub(super) fn say_if_decimal(vram: u64, screen: &Screen) {
    if !vram.is_multiple_of(1 << 20) {
        let [given, meant] = [memory(vram), (vram as f64 / 1e9).round().to_string()];
        screen.say(&format!("note: that is {given}; a card that is sold with {meant} GB has {meant}GiB"));
    }
}

/// What a fit comes to that does not, and what would.
pub(super) fn misfit(fit: &Fit) -> String {
    verdict(fit) + &remedies(fit)
}

/// Reports whether a recipe is meant: standard input, or a file by its ending or because it is one.
fn is_recipe(subject: &str) -> bool {
    let path = Path::new(subject);
    subject == "-" || path.is_file() && !is_headers_file(path) || RecipeText::is_by_ending(path)
}

/// A path as a shell takes it.
fn shell_word(path: &str) -> String {
    typed(Path::new(path)).unwrap_or_else(|| NO_OUTPUT.to_owned())
}

/// The `preprocessor_config.json` of a checkpoint, where it has one that can be read.
//
// It makes an estimate better, and is no reason to fail.
pub(super) fn preprocessor(checkpoint: &Checkpoint) -> Option<serde_json::Value> {
    let text = checkpoint.read_small("preprocessor_config.json", MAX_PREPROCESSOR).ok()??;
    serde_json::from_slice(&text).ok()
}

fn report(fit: &Fit, screen: &Screen) -> Result<(), CommandError> {
    screen.report(&figures(fit))?;
    // A shell would take a line that is broken for two.
    if !screen.quiet && !fit.serve.is_empty() {
        let lines: String = fit.serve.iter().map(|line| format!("  {}\n", line.words.join(" "))).collect();
        screen.data(&format!("\nto serve it:\n{lines}"))?;
    }
    screen.report(&advice(fit))
}

fn figures(fit: &Fit) -> String {
    let mut text = verdict(fit);
    text.push('\n');
    text.push_str(&memory_of_a_gpu(fit));
    if let Some(cache) = &fit.cache {
        text.push('\n');
        text.push_str(&cache_of_a_gpu(cache));
    }
    text
}

fn advice(fit: &Fit) -> String {
    let mut text = remedies(fit);
    text.push('\n');
    text.push_str(&kernels(fit));
    text.push_str("\nassumed:\n");
    fit.notes.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    text
}

fn remedies(fit: &Fit) -> String {
    if fit.remedies.is_empty() {
        return String::new();
    }
    let lines: String = fit.remedies.iter().map(|line| format!("  {line}\n")).collect();
    format!("\nwhat would fit:\n{lines}")
}

fn verdict(fit: &Fit) -> String {
    let gpus = match fit.gpus {
        1 => format!("a GPU of {}", memory(fit.vram)),
        gpus => format!("{gpus} GPUs of {} each", memory(fit.vram)),
    };
    let family = fit.family.as_deref().map_or_else(String::new, |family| format!("{}: ", unquoted(family)));
    let mut text = format!("{family}{} {gpus}\n", if fit.fits { "fits" } else { "does not fit" });
    if let Some(why) = &fit.misfit {
        text.push_str(&format!("  {}\n", unquoted(why)));
        return text;
    }
    if let Some(why) = &fit.cache_not_known {
        text.push_str(&format!("  not known how vLLM sizes its cache: {}\n", unquoted(why)));
        return text;
    }
    let requests = usize::try_from(fit.requests).unwrap_or(usize::MAX);
    if fit.fits {
        let tokens = format!("{} tokens of context", grouped(fit.context));
        text.push_str(&format!("  {tokens}, {} at once\n", count(requests, "request")));
    } else if let Some(most) = fit.model_context.filter(|_| fit.is_beyond_model()) {
        text.push_str(&format!(
            "  {} tokens of context are more than the {} that the model has: vLLM does not start\n",
            grouped(fit.context),
            grouped(most)
        ));
    } else if fit.budget.missing > 0 {
        text.push_str(&format!("  {} more are needed before the first token\n", memory(fit.budget.missing)));
    } else {
        let tokens = format!("{} tokens of context", grouped(fit.context));
        let at_once = if requests > 1 { format!(" in {requests} requests at once") } else { String::new() };
        text.push_str(&format!("  {tokens}{at_once} do not fit\n"));
    }
    if let Some(longest) = fit.longest_context.filter(|longest| *longest > 0) {
        let of_model = match fit.model_context {
            Some(most) if longest >= most => ", all that the model has".to_owned(),
            Some(most) => format!(" of the model's {}", grouped(most)),
            None => String::new(),
        };
        text.push_str(&format!("  longest context of a single request: {} tokens{of_model}\n", grouped(longest)));
    }
    text
}

fn memory_of_a_gpu(fit: &Fit) -> String {
    let mut table = TextTable::new(&[("memory of each GPU", Align::Left), ("", Align::Right), ("", Align::Left)]);
    let budget = &fit.budget;
    table.row(["for vLLM".to_owned(), memory(budget.usable), "92 % of the GPU".to_owned()]);
    let of_all = if fit.gpus == 1 { exact(budget.weights) } else { format!("of {}", exact(fit.weights.all)) };
    table.row(["weights".to_owned(), memory(budget.weights), of_all]);
    for estimate in &budget.estimates {
        table.row([format!("{} (estimate)", estimate.what), memory(estimate.bytes), estimate.how.clone()]);
    }
    table.row(["left for the cache".to_owned(), memory(budget.cache), String::new()]);
    table.render()
}

fn cache_of_a_gpu(cache: &CacheFit) -> String {
    let mut table = TextTable::new(&[
        ("cache of each GPU", Align::Left),
        ("layers", Align::Right),
        ("tokens of a block", Align::Right),
        ("bytes of a block", Align::Right),
    ]);
    let mut groups = cache.groups.iter().peekable();
    while let Some(group) = groups.next() {
        let mut alike = 1;
        while groups.peek().is_some_and(|next| *next == group) {
            groups.next();
            alike += 1;
        }
        let keeps = if alike == 1 { group.keeps.clone() } else { format!("{alike} groups of {}", group.keeps) };
        let layers = (group.layers * alike).to_string();
        table.row([keeps, layers, grouped(group.block_tokens), grouped(group.block_bytes)]);
    }
    format!(
        "{}{} of {}: {} tokens of cache in all; a request of that context takes {}\n",
        table.render(),
        count(usize::try_from(cache.blocks).unwrap_or(usize::MAX), "block"),
        memory(cache.bytes_per_block),
        grouped(cache.tokens),
        memory(cache.bytes_per_request)
    )
}

fn kernels(fit: &Fit) -> String {
    let mut table = TextTable::new(&[
        ("GPU", Align::Left),
        ("SM", Align::Left),
        ("such as", Align::Left),
        ("vLLM runs", Align::Left),
    ]);
    for kernels in &fit.kernels {
        let cells = [kernels.generation, kernels.capability, kernels.cards, kernels.runs];
        table.row(cells.map(str::to_owned));
    }
    table.render()
}

//! `plan --lock`, `plan --diff` and `apply --locked`: what was decided, written down and held against.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::adapters::with_adapters;
use super::args::SourceArgs;
use super::error::CommandError;
use super::json::JsonOutput;
use super::screen::Screen;
use crate::checkpoint::text::{count, shown_path, unquoted};
use crate::plan::Plan;
use crate::plan::changes::{Changes, SettingChange, TensorChange};
use crate::plan::lock::{PlanLock, Treatment};
use crate::plan::summary::TensorForm;

impl JsonOutput for Changes {
    const TITLE: &'static str = "Output of `qwen-fp8 plan --diff OTHER --json`";
}

/// Returns the JSON Schema of a lock.
pub(super) fn schema() -> Value {
    let generator = schemars::generate::SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<PlanLock>().to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), "What `qwen-fp8 plan --lock` writes".into());
    }
    schema
}

/// Returns the path of a recipe's lock where none is named: `fp8.yaml` has `fp8.lock.json`.
pub(super) fn beside(recipe: &Path) -> PathBuf {
    recipe.with_extension("lock.json")
}

/// Writes the lock of a plan.
pub(super) fn write(plan: &Plan, recipe: &Path, file: Option<&Path>, screen: &Screen) -> Result<(), CommandError> {
    let path = path(recipe, file, "--lock")?;
    fs::write(&path, PlanLock::of(plan).text())
        .map_err(|error| CommandError::Run(format!("{} cannot be written: {error}", shown_path(&path))))?;
    screen.say(&format!(
        "wrote {}, what becomes of {}; `apply --locked` refuses a plan that differs",
        shown_path(&path),
        count(plan.inputs.len(), "tensor")
    ));
    Ok(())
}

/// Holds a plan against a lock, and shows what differs.
///
/// # Errors
/// The plan differs, or there is no such lock.
pub(super) fn hold(plan: &Plan, recipe: &Path, file: Option<&Path>, screen: &Screen) -> Result<(), CommandError> {
    let path = path(recipe, file, "--locked")?;
    let changes = Changes::between(&read(&path)?, &PlanLock::of(plan)).map_err(|error| unreadable(&path, &error))?;
    if changes.is_empty() {
        return Ok(());
    }
    screen.say_unbroken(render(&changes, most_names(screen)).trim_end());
    let tensors = match changes.tensors() {
        0 => "the same is decided of every tensor".to_owned(),
        number => format!("{} would fare otherwise", count(number, "tensor")),
    };
    let settings = match changes.settings.len() {
        0 => String::new(),
        1 => ", and 1 setting of the output differs".to_owned(),
        number => format!(", and {number} settings of the output differ"),
    };
    let message = format!("the plan is another than the lock {}: {tensors}{settings}", shown_path(&path));
    let help = "`qwen-fp8 plan` with `--diff` and the lock shows it again, and with `--lock` locks what is decided now";
    Err(CommandError::Input(message).with_help(&[help.to_owned()]))
}

/// The most lines of names that are shown of a change.
pub(super) fn most_names(screen: &Screen) -> usize {
    if screen.verbose { usize::MAX } else { 20 }
}

/// Returns how the plan of another recipe, or a lock, differs from a plan for the same checkpoint.
pub(super) fn differences(
    plan: &Plan,
    source: &SourceArgs,
    other: &Path,
    screen: &Screen,
) -> Result<Changes, CommandError> {
    let of_other = if other.extension().is_some_and(|extension| extension == "json") {
        read(other)?
    } else {
        let model = source.model.clone().or_else(|| plan.recipe.model.clone());
        let source = SourceArgs { recipe: other.to_owned(), model, smoke: source.smoke };
        PlanLock::of(&super::source::plan_beside(plan, &source, screen)?)
    };
    Changes::between(&PlanLock::of(plan), &of_other).map_err(|error| unreadable(other, &error))
}

fn path(recipe: &Path, file: Option<&Path>, option: &str) -> Result<PathBuf, CommandError> {
    match file {
        Some(file) => Ok(file.to_owned()),
        None if recipe == Path::new("-") => Err(CommandError::Usage(format!(
            "a recipe from standard input has no name to find its lock by: `{option}=FILE` names one"
        ))),
        None => Ok(beside(recipe)),
    }
}

fn read(path: &Path) -> Result<PlanLock, CommandError> {
    let text = fs::read_to_string(path).map_err(|error| {
        CommandError::Input(format!("the lock {} cannot be read: {error}", shown_path(path)))
            .with_help(&["`qwen-fp8 plan RECIPE --lock` writes one".to_owned()])
    })?;
    PlanLock::parse(&text).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &dyn std::error::Error) -> CommandError {
    CommandError::Input(format!("the lock {} cannot be used: {error}", shown_path(path)))
        .with_help(&["`qwen-fp8 plan RECIPE --lock` writes a new one".to_owned()])
}

/// Shows changes: what was with `-`, what is with `+`, and below them so many lines of names at most.
pub(super) fn render(changes: &Changes, most: usize) -> String {
    let mut text = String::new();
    let other_format = changes.settings.iter().any(|setting| setting.key == "format");
    for setting in &changes.settings {
        // Each format has keys of its own, of which none says more than its name.
        if !other_format || setting.key == "format" || setting.key == "on_nonfinite" {
            text.push_str(&render_setting(setting, most));
        }
    }
    for change in &changes.tensors {
        text.push_str(&render_change(change, most));
    }
    text
}

/// A setting on one line; of lists, the entries that went or came, a line each.
fn render_setting(setting: &SettingChange, most: usize) -> String {
    let key = unquoted(&setting.key);
    let (Value::Array(before), Value::Array(after)) = (&setting.before, &setting.after) else {
        return format!("{key}: {} → {}\n", value_text(&setting.before), value_text(&setting.after));
    };
    let went = before.iter().filter(|entry| !after.contains(entry)).map(|entry| ('-', entry));
    let came = after.iter().filter(|entry| !before.contains(entry)).map(|entry| ('+', entry));
    let entries: Vec<_> = went.chain(came).collect();
    let mut text = format!("{key}: {}\n", if entries.is_empty() { "in another order" } else { "other entries" });
    for (mark, entry) in entries.iter().take(most) {
        text.push_str(&format!("  {mark} {}\n", value_text(entry)));
    }
    if let Some(more @ 1..) = entries.len().checked_sub(most) {
        text.push_str(&format!("    and {more} more\n"));
    }
    text
}

fn value_text(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::String(text) => unquoted(text).to_string(),
        other => unquoted(&other.to_string()).to_string(),
    }
}

fn render_change(change: &TensorChange, most: usize) -> String {
    let one = |mark: char, treatment: Option<&Treatment>| match treatment {
        Some(treatment) => format!("  {mark} {}\n", treatment_text(treatment)),
        None => format!("  {mark} no such tensor\n"),
    };
    let mut text = format!("{}\n", count(change.count, "tensor"));
    text.push_str(&one('-', change.before.as_ref()));
    text.push_str(&one('+', change.after.as_ref()));
    for name in change.names.iter().take(most) {
        text.push_str(&format!("    {}\n", unquoted(name)));
    }
    if let Some(more @ 1..) = change.names.len().checked_sub(most) {
        text.push_str(&format!("    and {more} more\n"));
    }
    text
}

/// `quantize by FP8_DYNAMIC {"block_size":128}: BF16 [96, 64] → F8E4M3 [96, 64], weight_scale_inv BF16 [1, 1]`.
fn treatment_text(treatment: &Treatment) -> String {
    let action = treatment.action.word();
    let scheme = treatment.scheme.as_ref().map_or_else(String::new, |scheme| {
        let options = if scheme.options.is_empty() {
            String::new()
        } else {
            format!(" {}", unquoted(&Value::Object(scheme.options.clone()).to_string()))
        };
        format!(" by {}{options} (version {})", unquoted(&scheme.name), scheme.version)
    });
    let form = |form: &TensorForm| format!("{} {} {:?}", unquoted(&form.suffix), unquoted(&form.dtype), form.shape);
    let after: Vec<String> = treatment.after.iter().map(form).collect();
    let adapters = with_adapters(&treatment.adapters);
    format!("{action}{scheme}: {}{adapters} → {}", form(&treatment.before), after.join(", "))
}

//! Command lines that are wrong: clap's words for people, and the same as JSON where JSON was asked for.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;

use super::failure::FailureOutput;
use super::screen::Screen;

/// The exit code of a command line that is wrong.
const EXIT_CODE: u8 = 2;

/// Reports whether the arguments ask for JSON.
//
// Read from the raw arguments: where they are wrong, clap has no typed ones.
pub(super) fn asks_for_json(arguments: &[OsString]) -> bool {
    let mut words = arguments.iter().skip(1).map(|word| word.to_str().unwrap_or("")).take_while(|word| *word != "--");
    let mut before = "";
    words.any(|word| {
        let asks = matches!(word, "--json" | "--format=json") || (before, word) == ("--format", "json");
        before = word;
        asks
    })
}

/// Shows clap's error, or the help or version that was asked for, and returns the exit code.
pub(super) fn report(error: &clap::Error, screen: &Screen) -> ExitCode {
    // A reader that went away is no error.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let (message, help) = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            ("no command is given".to_owned(), vec!["`qwen-fp8 --help` lists the commands".to_owned()])
        }
        _ => parts(&error.render().to_string()),
    };
    screen.failure_as_json(&FailureOutput::of_usage(message, help, EXIT_CODE));
    ExitCode::from(EXIT_CODE)
}

/// The message, which is clap's first paragraph, and the paragraphs that help: tips and usage.
fn parts(text: &str) -> (String, Vec<String>) {
    let joined = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.split("\n\n").map(joined).filter(|paragraph| !paragraph.is_empty());
    let first = paragraphs.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(&first).to_owned();
    let help = paragraphs.map(|paragraph| paragraph.strip_prefix("tip: ").unwrap_or(&paragraph).to_owned());
    (message, help.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_asked_for_by_option_and_not_by_name() {
        let asks = |line: &str| asks_for_json(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(asks("qwen-fp8 plan a.yaml --json") && asks("qwen-fp8 lint --format json x"));
        assert!(asks("qwen-fp8 lint --format=json") && !asks("qwen-fp8 lint --format sarif"));
        assert!(!asks("qwen-fp8 validate -- --json") && !asks("--json"));
    }

    #[test]
    fn a_message_is_one_line_and_advice_follows() {
        let text =
            "error: invalid value 'x' for '--n <N>': no\n  number\n\n  tip: a 'y' exists\n\nUsage: q [N]\n\nFor more\n";
        let (message, help) = parts(text);
        assert_eq!(message, "invalid value 'x' for '--n <N>': no number");
        assert_eq!(help, ["a 'y' exists", "Usage: q [N]", "For more"]);
    }
}

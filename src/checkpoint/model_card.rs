//! The model card of a checkpoint: the text of `README.md`, and the front matter that the Hugging Face hub reads.

use crate::side_files::SideFile;
use crate::source::SourceError;

/// The name of the file.
pub const MODEL_CARD: &str = "README.md";

/// The most bytes of a card that is read. The largest on the hub have some hundred kilobytes.
const MOST_BYTES: u64 = 1 << 20;

/// Returns the text of the card among these files; `None` where there is none, or it is too long or no UTF-8, so that it
/// can only be copied.
///
/// # Errors
/// The card cannot be read, or changed since it was listed.
pub fn read(files: &[SideFile]) -> Result<Option<String>, SourceError> {
    let Some(card) = files.iter().find(|file| file.name == MODEL_CARD && file.stamp.size <= MOST_BYTES) else {
        return Ok(None);
    };
    let file = card.open()?;
    let bytes = file.read_small(MOST_BYTES)?;
    file.check_unchanged(card.stamp)?;
    Ok(String::from_utf8(bytes).ok())
}

/// Splits a card into its front matter, without the lines of dashes, and the text after it.
pub fn parts(card: &str) -> (Option<&str>, &str) {
    // As huggingface_hub finds it: the first line that is not empty is one of dashes, and a later line is another.
    let Some(matter) = card.trim_start().strip_prefix("---").and_then(after_line_break) else { return (None, card) };
    let mut end = 0;
    for line in matter.split_inclusive('\n') {
        if line.trim_end_matches(['\r', '\n']) == "---" {
            return (Some(&matter[..end]), &matter[end + line.len()..]);
        }
        end += line.len();
    }
    (None, card)
}

fn after_line_break(text: &str) -> Option<&str> {
    text.strip_prefix("\r\n").or_else(|| text.strip_prefix('\n'))
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn front_matter_stands_between_lines_of_dashes() {
        for (card, matter, rest) in [
            ("---\na: 1\n---\ntext\n", Some("a: 1\n"), "text\n"),
            ("\n\n---\r\na: 1\r\n---\r\n\r\ntext", Some("a: 1\r\n"), "\r\ntext"),
            ("---\n---\n", Some(""), ""),
            ("---\na: 1\n---", Some("a: 1\n"), ""),
            ("---\na: '---'\n--- b\n---\nc", Some("a: '---'\n--- b\n"), "c"),
            ("text\n---\na: 1\n---\n", None, "text\n---\na: 1\n---\n"),
            ("---\nno end", None, "---\nno end"),
            ("--- a\n---\n", None, "--- a\n---\n"),
            ("", None, ""),
        ] {
            assert_eq!(parts(card), (matter, rest), "{card:?}");
        }
    }
}

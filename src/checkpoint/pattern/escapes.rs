//! Escapes, in and outside character sets.

use super::tokens::{RegexFault, RegexTokens};
use super::tree::SetItem;

/// The character that an escape of digits, a name or a letter stands for, both in and outside sets; `None` for another
/// escape. `letter` is read already, `at` is where the backslash stands.
pub(super) fn character(tokens: &mut RegexTokens, letter: char, at: usize) -> Result<Option<u32>, RegexFault> {
    let code = match letter {
        'a' => 0x07,
        'f' => 0x0c,
        'n' => 0x0a,
        'r' => 0x0d,
        't' => 0x09,
        'v' => 0x0b,
        'x' => hexadecimal(tokens, 2, at)?,
        'u' => hexadecimal(tokens, 4, at)?,
        'U' => {
            let code = hexadecimal(tokens, 8, at)?;
            if code > 0x10_ffff {
                return Err(bad(tokens, at));
            }
            code
        }
        'N' => named(tokens, at)?,
        other if !other.is_ascii_alphanumeric() => u32::from(other),
        _ => return Ok(None),
    };
    Ok(Some(code))
}

/// The set that a letter stands for.
pub(super) fn category(letter: char) -> Option<SetItem> {
    matches!(letter, 'd' | 'D' | 's' | 'S' | 'w' | 'W').then_some(SetItem::Category(letter))
}

/// An octal escape of these digits.
pub(super) fn octal(digits: &str, at: usize) -> Result<u32, RegexFault> {
    match u32::from_str_radix(digits, 8) {
        Ok(code) if code <= 0o377 => Ok(code),
        _ => Err(RegexFault::new(format!("the octal escape `\\{digits}` is beyond `\\377`"), at)),
    }
}

/// An escape that Python does not know.
pub(super) fn bad(tokens: &RegexTokens, at: usize) -> RegexFault {
    let escape = tokens.since(at);
    let fault = RegexFault::new(format!("Python knows no escape `{escape}`"), at);
    fault.help(match escape.chars().nth(1) {
        Some('z') => "write `\\Z`",
        Some('p' | 'P') => "write a set such as `[a-z]`",
        Some('h') => "write `[ \\t]`",
        Some('K') => "write `(?<=…)`",
        Some('R') => "write `\\r?\\n`",
        Some('Q' | 'E') => "escape each character by itself",
        _ => "",
    })
}

fn hexadecimal(tokens: &mut RegexTokens, digits: usize, at: usize) -> Result<u32, RegexFault> {
    let text = tokens.eat_while(digits, |c| c.is_ascii_hexdigit());
    match u32::from_str_radix(&text, 16) {
        Ok(code) if text.len() == digits => Ok(code),
        _ => {
            let letter = tokens.since(at);
            let fault = RegexFault::new(format!("the escape `{letter}` is incomplete"), at);
            Err(fault.help("write two digits after `\\x`, four after `\\u`, eight after `\\U`, without braces"))
        }
    }
}

/// `\N{…}`: the names of ASCII alone, since the whole table is a megabyte and no layer's name needs it.
fn named(tokens: &mut RegexTokens, at: usize) -> Result<u32, RegexFault> {
    if !tokens.eat('{') {
        return Err(RegexFault::new("`\\N` has no name in braces", at));
    }
    let name = tokens.name_until('}')?.to_ascii_uppercase();
    let letter = |prefix: &str| {
        let rest = name.strip_prefix(prefix)?;
        let mut letters = rest.chars();
        letters.next().filter(|c| c.is_ascii_alphabetic() && letters.next().is_none())
    };
    let found = letter("LATIN SMALL LETTER ")
        .map(|c| c.to_ascii_lowercase())
        .or_else(|| letter("LATIN CAPITAL LETTER "))
        .or_else(|| ASCII_NAMES.iter().find(|(_, known)| *known == name).map(|(c, _)| *c));
    found.map(u32::from).ok_or_else(|| {
        let fault = RegexFault::new(format!("the name in `{}` is not one of an ASCII character", tokens.since(at)), at);
        fault.help("write the character itself")
    })
}

const ASCII_NAMES: [(char, &str); 43] = [
    (' ', "SPACE"),
    ('!', "EXCLAMATION MARK"),
    ('"', "QUOTATION MARK"),
    ('#', "NUMBER SIGN"),
    ('$', "DOLLAR SIGN"),
    ('%', "PERCENT SIGN"),
    ('&', "AMPERSAND"),
    ('\'', "APOSTROPHE"),
    ('(', "LEFT PARENTHESIS"),
    (')', "RIGHT PARENTHESIS"),
    ('*', "ASTERISK"),
    ('+', "PLUS SIGN"),
    (',', "COMMA"),
    ('-', "HYPHEN-MINUS"),
    ('.', "FULL STOP"),
    ('/', "SOLIDUS"),
    ('0', "DIGIT ZERO"),
    ('1', "DIGIT ONE"),
    ('2', "DIGIT TWO"),
    ('3', "DIGIT THREE"),
    ('4', "DIGIT FOUR"),
    ('5', "DIGIT FIVE"),
    ('6', "DIGIT SIX"),
    ('7', "DIGIT SEVEN"),
    ('8', "DIGIT EIGHT"),
    ('9', "DIGIT NINE"),
    (':', "COLON"),
    (';', "SEMICOLON"),
    ('<', "LESS-THAN SIGN"),
    ('=', "EQUALS SIGN"),
    ('>', "GREATER-THAN SIGN"),
    ('?', "QUESTION MARK"),
    ('@', "COMMERCIAL AT"),
    ('[', "LEFT SQUARE BRACKET"),
    ('\\', "REVERSE SOLIDUS"),
    (']', "RIGHT SQUARE BRACKET"),
    ('^', "CIRCUMFLEX ACCENT"),
    ('_', "LOW LINE"),
    ('`', "GRAVE ACCENT"),
    ('{', "LEFT CURLY BRACKET"),
    ('|', "VERTICAL LINE"),
    ('}', "RIGHT CURLY BRACKET"),
    ('~', "TILDE"),
];

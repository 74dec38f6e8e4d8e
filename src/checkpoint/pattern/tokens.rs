//! The tokens of a regex, as Python cuts it: a character, or a backslash and what it escapes.

/// A token of a regex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RegexToken {
    Plain(char),
    Escaped(char),
}

/// A reason for which a text is no regex, and the character at which it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RegexFault {
    pub(super) reason: String,
    /// Characters before it.
    pub(super) at: usize,
    /// The way out; may be empty.
    pub(super) help: &'static str,
}

impl RegexFault {
    pub(super) fn new(reason: impl Into<String>, at: usize) -> Self {
        Self { reason: reason.into(), at, help: "" }
    }

    pub(super) fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }
}

/// The tokens that are still to be read.
#[derive(Debug)]
pub(super) struct RegexTokens {
    characters: Vec<char>,
    at: usize,
}

impl RegexTokens {
    pub(super) fn of(text: &str) -> Result<Self, RegexFault> {
        let characters: Vec<char> = text.chars().collect();
        let backslashes = characters.iter().rev().take_while(|c| **c == '\\').count();
        if backslashes % 2 == 1 {
            let fault = RegexFault::new("the backslash at the end escapes nothing", characters.len() - 1);
            return Err(fault.help("write `\\\\` for a backslash"));
        }
        Ok(Self { characters, at: 0 })
    }

    /// The number of characters that are read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn seek(&mut self, at: usize) {
        self.at = at;
    }

    pub(super) fn peek(&self) -> Option<RegexToken> {
        let rest = self.characters.get(self.at..)?;
        match rest {
            ['\\', escaped, ..] => Some(RegexToken::Escaped(*escaped)),
            [plain, ..] => Some(RegexToken::Plain(*plain)),
            [] => None,
        }
    }

    pub(super) fn next(&mut self) -> Option<RegexToken> {
        let token = self.peek()?;
        self.at += if matches!(token, RegexToken::Escaped(_)) { 2 } else { 1 };
        Some(token)
    }

    /// Takes the next token if it is this character, unescaped.
    pub(super) fn eat(&mut self, character: char) -> bool {
        let is_next = self.peek() == Some(RegexToken::Plain(character));
        if is_next {
            self.at += 1;
        }
        is_next
    }

    /// Takes this text, or nothing.
    pub(super) fn eat_text(&mut self, text: &str) -> bool {
        let is_next = self.characters.get(self.at..).is_some_and(|rest| {
            let mut rest = rest.iter();
            text.chars().all(|c| rest.next() == Some(&c))
        });
        if is_next {
            self.at += text.chars().count();
        }
        is_next
    }

    /// Takes at most `most` characters that `fits` takes.
    pub(super) fn eat_while(&mut self, most: usize, fits: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while taken.len() < most
            && let Some(RegexToken::Plain(c)) = self.peek()
            && fits(c)
        {
            taken.push(c);
            self.at += 1;
        }
        taken
    }

    /// Takes a name and the character that ends it.
    pub(super) fn name_until(&mut self, end: char) -> Result<String, RegexFault> {
        let start = self.at;
        while let Some(token) = self.next() {
            if token == RegexToken::Plain(end) {
                let name: String = self.characters[start..self.at - 1].iter().collect();
                return if name.is_empty() { Err(RegexFault::new("a name is missing", start)) } else { Ok(name) };
            }
        }
        Err(RegexFault::new(format!("a name has no `{end}` at its end"), start))
    }

    /// The text from a place up to what is read.
    pub(super) fn since(&self, at: usize) -> String {
        self.characters[at.min(self.at)..self.at].iter().collect()
    }
}

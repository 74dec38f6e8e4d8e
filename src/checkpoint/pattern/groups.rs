//! Groups of a regex: what follows `(`.

use super::reader::{RegexGrammar, RegexReader};
use super::tokens::{RegexFault, RegexToken};
use super::tree::{RegexFlags, RegexNode};

impl RegexReader {
    /// Reads a group, whose parenthesis stands at `start` and is read; `None` for a comment, and for flags of the whole
    /// regex, which may stand where `first`.
    pub(super) fn group(
        &mut self,
        start: usize,
        flags: &mut RegexFlags,
        first: bool,
    ) -> Result<Option<RegexNode>, RegexFault> {
        if !self.tokens.eat('?') {
            return self.capture(None, start, *flags).map(Some);
        }
        let at = self.tokens.at();
        let token = self.tokens.next().ok_or_else(|| RegexFault::new("the group ends after `(?`", start))?;
        let RegexToken::Plain(kind) = token else { return Err(self.unknown(start)) };
        match kind {
            'P' if self.tokens.eat('<') => self.named(start, *flags).map(Some),
            'P' if self.tokens.eat('=') => {
                let name = self.name(')')?;
                let group = self.group_called(&name, at)?;
                self.back_reference(group, at, *flags).map(Some)
            }
            ':' => {
                let inner = self.inner(start, *flags)?;
                Ok(Some(RegexNode::Sequence(vec![inner])))
            }
            '#' => loop {
                match self.tokens.next() {
                    None => return Err(RegexFault::new("the comment has no `)` at its end", start)),
                    Some(RegexToken::Plain(')')) => return Ok(None),
                    Some(_) => {}
                }
            },
            '=' | '!' => {
                let inner = Box::new(self.inner(start, *flags)?);
                Ok(Some(RegexNode::Look { behind: false, negated: kind == '!', inner }))
            }
            '<' if self.tokens.eat('=') => self.look_behind(false, start, *flags).map(Some),
            '<' if self.tokens.eat('!') => self.look_behind(true, start, *flags).map(Some),
            '<' if self.grammar == RegexGrammar::Served => self.named(start, *flags).map(Some),
            '>' => Ok(Some(RegexNode::Atomic(Box::new(self.inner(start, *flags)?)))),
            '(' => self.condition(start, *flags).map(Some),
            '-' | 'a' | 'i' | 'L' | 'm' | 's' | 'u' | 'x' => self.flagged(kind, start, flags, first),
            _ => {
                // The character after `(?<` or `(?P` tells what was meant.
                if kind == '<' || kind == 'P' {
                    self.tokens.next();
                }
                Err(self.unknown(start))
            }
        }
    }

    fn unknown(&self, start: usize) -> RegexFault {
        let group = self.tokens.since(start);
        let help = if group.starts_with("(?<") { "write `(?P<name>…)` for a group with a name" } else { "" };
        RegexFault::new(format!("Python knows no group `{group}`"), start).help(help)
    }

    fn inner(&mut self, start: usize, flags: RegexFlags) -> Result<RegexNode, RegexFault> {
        let inner = self.alternatives(flags, false)?;
        if self.tokens.eat(')') { Ok(inner) } else { Err(unclosed(start)) }
    }

    fn capture(&mut self, name: Option<String>, start: usize, flags: RegexFlags) -> Result<RegexNode, RegexFault> {
        let group = self.groups.len();
        self.groups.push(None);
        if let Some(name) = name {
            if self.names.contains_key(&name) {
                return Err(RegexFault::new(format!("two groups have the name `{name}`"), start));
            }
            self.names.insert(name, group);
        }
        let inner = self.inner(start, flags)?;
        self.groups[group] = Some(inner.width());
        Ok(RegexNode::Capture(Box::new(inner)))
    }

    fn named(&mut self, start: usize, flags: RegexFlags) -> Result<RegexNode, RegexFault> {
        let name = self.name('>')?;
        self.capture(Some(name), start, flags)
    }

    fn name(&mut self, end: char) -> Result<String, RegexFault> {
        let at = self.tokens.at();
        let name = self.tokens.name_until(end)?;
        if is_identifier(&name) {
            Ok(name)
        } else {
            Err(RegexFault::new(format!("`{name}` is no name for a group"), at).help("take letters, digits and `_`"))
        }
    }

    fn group_called(&self, name: &str, at: usize) -> Result<usize, RegexFault> {
        let group = self.names.get(name).copied();
        group.ok_or_else(|| RegexFault::new(format!("no group before has the name `{name}`"), at))
    }

    fn look_behind(&mut self, negated: bool, start: usize, flags: RegexFlags) -> Result<RegexNode, RegexFault> {
        let outer = self.behind;
        self.behind = outer.or(Some(self.groups.len()));
        let inner = self.inner(start, flags)?;
        self.behind = outer;
        let (least, most) = inner.width();
        if self.grammar == RegexGrammar::Python && most != Some(least) {
            let fault = RegexFault::new("a look-behind takes texts of one length only", start);
            return Err(fault.help("write one for each length, as in `(?:(?<=a)|(?<=bc))`"));
        }
        Ok(RegexNode::Look { behind: true, negated, inner: Box::new(inner) })
    }

    fn condition(&mut self, start: usize, flags: RegexFlags) -> Result<RegexNode, RegexFault> {
        let at = self.tokens.at();
        let name = self.tokens.name_until(')')?;
        let group = if is_identifier(&name) {
            self.group_called(&name, at)?
        } else {
            let number = name.parse().ok().filter(|number| *number > 0);
            number.ok_or_else(|| RegexFault::new(format!("`{name}` is neither a group's name nor its number"), at))?
        };
        self.outside_look_behind(group, at)?;
        if !self.groups.get(group).is_some_and(Option::is_some) {
            // Python takes it where the group is open or comes later, which matters in a loop only; fancy-regex does not.
            return Err(RegexFault::new(format!("the condition names group {group}, which is not before it"), at));
        }
        let yes = Box::new(self.branch(flags)?);
        let no = if self.tokens.eat('|') { Some(Box::new(self.branch(flags)?)) } else { None };
        if self.tokens.peek() == Some(RegexToken::Plain('|')) {
            return Err(RegexFault::new("a condition has two branches at most", self.tokens.at()));
        }
        if !self.tokens.eat(')') {
            return Err(unclosed(start));
        }
        Ok(RegexNode::Condition { group, yes, no })
    }

    /// Reads a branch of a condition, which counts as a level of its own.
    fn branch(&mut self, flags: RegexFlags) -> Result<RegexNode, RegexFault> {
        self.deeper(|reader| reader.sequence(flags, false))
    }

    /// Reads flags: of the whole regex, as `(?i)`, or of a group, as `(?i:…)`.
    fn flagged(
        &mut self,
        mut letter: char,
        start: usize,
        flags: &mut RegexFlags,
        first: bool,
    ) -> Result<Option<RegexNode>, RegexFault> {
        let mut on = String::new();
        let mut off = String::new();
        let mut is_off = letter == '-';
        if is_off {
            letter = self.flag_letter(start)?;
        }
        loop {
            match letter {
                'a' | 'i' | 'm' | 's' | 'u' | 'x' if !is_off => on.push(letter),
                'i' | 'm' | 's' | 'x' => off.push(letter),
                'a' | 'u' => {
                    let fault = RegexFault::new(format!("Python does not turn the flag `{letter}` off"), start);
                    return Err(fault.help("leave it out"));
                }
                'L' => return Err(RegexFault::new("the flag `L` is for bytes, and names are text", start)),
                '-' if !is_off => {
                    is_off = true;
                    letter = self.flag_letter(start)?;
                    continue;
                }
                ')' if off.is_empty() && !is_off => break,
                ':' if !(is_off && off.is_empty()) => break,
                _ => return Err(RegexFault::new(format!("`{}` is no list of flags", self.tokens.since(start)), start)),
            }
            letter = self.flag_letter(start)?;
        }
        if on.contains('a') && on.contains('u') {
            return Err(RegexFault::new("the flags `a` and `u` exclude each other", start));
        }
        if letter == ')' {
            let whole = with(self.global, &on, "");
            if on.contains('u') && self.global.ascii {
                return Err(RegexFault::new("the flags `a` and `u` exclude each other", start));
            }
            self.global = whole;
            if !first && self.grammar == RegexGrammar::Python {
                let fault = RegexFault::new(format!("the flags `(?{on})` stand in the middle"), start);
                return Err(fault.help("put them at the start, or write `(?i:…)` around what they are for"));
            }
            *flags = with(*flags, &on, "");
            return Ok(None);
        }
        if on.chars().any(|flag| off.contains(flag)) {
            return Err(RegexFault::new("a flag is turned on and off", start));
        }
        let inner = self.inner(start, with(*flags, &on, &off))?;
        Ok(Some(RegexNode::Sequence(vec![inner])))
    }

    fn flag_letter(&mut self, start: usize) -> Result<char, RegexFault> {
        match self.tokens.next() {
            Some(RegexToken::Plain(letter)) => Ok(letter),
            _ => Err(RegexFault::new("the list of flags has no end", start)),
        }
    }
}

fn with(flags: RegexFlags, on: &str, off: &str) -> RegexFlags {
    let set = |now: bool, letter: char| (now || on.contains(letter)) && !off.contains(letter);
    RegexFlags {
        ascii: (flags.ascii || on.contains('a')) && !on.contains('u'),
        any_case: set(flags.any_case, 'i'),
        lines: set(flags.lines, 'm'),
        dot_takes_line_ends: set(flags.dot_takes_line_ends, 's'),
        verbose: set(flags.verbose, 'x'),
    }
}

fn unclosed(start: usize) -> RegexFault {
    RegexFault::new("the group has no `)`", start)
}

/// Python's `str.isidentifier`, as far as letters go.
fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|c| c.is_alphabetic() || c == '_') && letters.all(|c| c.is_alphanumeric() || c == '_')
}

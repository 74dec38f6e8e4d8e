//! Reads a regex as Python's `re` does, or as the package `regex` does that vLLM uses in its place.
//!
//! Follows `re/_parser.py` of Python 3.11 step by step, since what it refuses is refused by llm-compressor and
//! compressed-tensors too.

use std::collections::HashMap;

use super::escapes;
use super::tokens::{RegexFault, RegexToken, RegexTokens};
use super::tree::{CharacterSet, RegexFlags, RegexGreed, RegexNode, RegexWidth, SetItem};

/// The grammar that a regex is read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RegexGrammar {
    /// Python's `re`.
    Python,
    /// `regex` by M. Barnett, in its default version 0.
    Served,
}

/// Groups within groups beyond this are no pattern for layers, and reading them takes the stack.
const DEEPEST: usize = 100;

/// Reads a regex.
pub(super) fn read(text: &str, grammar: RegexGrammar) -> Result<RegexNode, RegexFault> {
    let mut global = RegexFlags::default();
    loop {
        let mut reader = RegexReader {
            tokens: RegexTokens::of(text)?,
            grammar,
            global,
            groups: vec![None],
            names: HashMap::new(),
            behind: None,
            depth: 0,
        };
        let node = reader.alternatives(global, true)?;
        if reader.tokens.peek().is_some() {
            return Err(RegexFault::new("a `)` closes no group", reader.tokens.at()));
        }
        // `regex` holds a flag in the middle to stand at the start, which is known only when all is read.
        if grammar == RegexGrammar::Python || reader.global == global {
            return Ok(node);
        }
        global = reader.global;
    }
}

fn no_group(group: usize, at: usize) -> RegexFault {
    RegexFault::new(format!("there is no group {group} to refer to"), at)
}

/// The reading of one regex.
pub(super) struct RegexReader {
    pub(super) tokens: RegexTokens,
    pub(super) grammar: RegexGrammar,
    /// The flags that `(?i)` and the like have set for all of the regex.
    pub(super) global: RegexFlags,
    /// The width of each group by number; `None` while it is open.
    pub(super) groups: Vec<Option<RegexWidth>>,
    pub(super) names: HashMap<String, usize>,
    /// The number of groups at the start of the outermost look-behind that is being read.
    pub(super) behind: Option<usize>,
    depth: usize,
}

impl RegexReader {
    /// Reads up to the end of the group; `outermost` for what is in none.
    pub(super) fn alternatives(&mut self, flags: RegexFlags, outermost: bool) -> Result<RegexNode, RegexFault> {
        self.deeper(|reader| reader.branches(flags, outermost))
    }

    /// Reads what lies one level deeper.
    pub(super) fn deeper(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<RegexNode, RegexFault>,
    ) -> Result<RegexNode, RegexFault> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let reason = format!("groups lie more than {DEEPEST} deep in each other");
            return Err(RegexFault::new(reason, self.tokens.at()));
        }
        let node = read(self);
        self.depth -= 1;
        node
    }

    fn branches(&mut self, mut flags: RegexFlags, outermost: bool) -> Result<RegexNode, RegexFault> {
        let mut branches = Vec::new();
        loop {
            branches.push(self.sequence(flags, outermost && branches.is_empty())?);
            if !self.tokens.eat('|') {
                break;
            }
            if outermost {
                flags = self.global;
            }
        }
        Ok(if branches.len() == 1 { branches.remove(0) } else { RegexNode::Alternatives(branches) })
    }

    /// Reads one alternative; `first` where flags for all of the regex may stand.
    pub(super) fn sequence(&mut self, mut flags: RegexFlags, first: bool) -> Result<RegexNode, RegexFault> {
        let mut parts: Vec<RegexNode> = Vec::new();
        while let Some(token) = self.tokens.peek() {
            let at = self.tokens.at();
            if matches!(token, RegexToken::Plain('|' | ')')) {
                break;
            }
            self.tokens.next();
            let part = match token {
                RegexToken::Plain(' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}') if flags.verbose => continue,
                RegexToken::Plain('#') if flags.verbose => {
                    while self.tokens.next().is_some_and(|token| token != RegexToken::Plain('\n')) {}
                    continue;
                }
                RegexToken::Escaped(letter) => self.escape(letter, at, flags)?,
                RegexToken::Plain('[') => self.set(at, flags)?,
                RegexToken::Plain(sign @ ('?' | '*' | '+' | '{')) => match self.times(sign, at)? {
                    Some((least, most)) => {
                        let inner = self.repeatable(&mut parts, at)?;
                        let greed = if self.tokens.eat('?') {
                            RegexGreed::Lazy
                        } else if self.tokens.eat('+') {
                            RegexGreed::Possessive
                        } else {
                            RegexGreed::Greedy
                        };
                        RegexNode::Repeat { inner: Box::new(inner), least, most, greed }
                    }
                    None => RegexNode::Literal { code: u32::from('{'), flags },
                },
                RegexToken::Plain('.') => RegexNode::Any { line_ends: flags.dot_takes_line_ends },
                RegexToken::Plain('(') => {
                    match self.group(at, &mut flags, first && parts.is_empty())? {
                        Some(part) => part,
                        // A comment, or flags.
                        None => continue,
                    }
                }
                RegexToken::Plain('^') => RegexNode::Start { of_lines: flags.lines },
                RegexToken::Plain('$') => RegexNode::Dollar { of_lines: flags.lines },
                RegexToken::Plain(other) => RegexNode::Literal { code: u32::from(other), flags },
            };
            parts.push(part);
        }
        Ok(match parts.len() {
            0 => RegexNode::Empty,
            _ => RegexNode::Sequence(parts),
        })
    }

    /// Reads how often a part is repeated; `None` for a brace that stands for itself.
    fn times(&mut self, sign: char, at: usize) -> Result<Option<(u32, Option<u32>)>, RegexFault> {
        match sign {
            '?' => return Ok(Some((0, Some(1)))),
            '*' => return Ok(Some((0, None))),
            '+' => return Ok(Some((1, None))),
            _ => {}
        }
        if self.tokens.peek() == Some(RegexToken::Plain('}')) {
            return Ok(None);
        }
        let start = self.tokens.at();
        let digits = |tokens: &mut RegexTokens| tokens.eat_while(usize::MAX, |c| c.is_ascii_digit());
        let low = digits(&mut self.tokens);
        let high = if self.tokens.eat(',') { digits(&mut self.tokens) } else { low.clone() };
        if !self.tokens.eat('}') {
            self.tokens.seek(start);
            return Ok(None);
        }
        let number = |digits: &str| match digits.parse::<u32>() {
            Ok(number) if number < u32::MAX => Ok(Some(number)),
            _ if digits.is_empty() => Ok(None),
            _ => Err(RegexFault::new(format!("{digits} repetitions are too many"), at)),
        };
        let (least, most) = (number(&low)?.unwrap_or(0), number(&high)?);
        if most.is_some_and(|most| most < least) {
            return Err(RegexFault::new("the greatest number of repetitions is less than the least", at));
        }
        Ok(Some((least, most)))
    }

    fn repeatable(&self, parts: &mut Vec<RegexNode>, at: usize) -> Result<RegexNode, RegexFault> {
        match parts.pop() {
            Some(RegexNode::Repeat { .. }) => {
                let fault = RegexFault::new("a repetition is repeated", at);
                Err(fault.help("put what is repeated in `(?:…)`"))
            }
            Some(part) if !part.is_place() => Ok(part),
            _ => Err(RegexFault::new("there is nothing to repeat", at)),
        }
    }

    fn escape(&mut self, letter: char, at: usize, flags: RegexFlags) -> Result<RegexNode, RegexFault> {
        if let Some(item) = escapes::category(letter) {
            return Ok(RegexNode::Set(CharacterSet { negated: false, items: vec![item], flags }));
        }
        let is_served = self.grammar == RegexGrammar::Served;
        let code = match letter {
            'A' => return Ok(RegexNode::Start { of_lines: false }),
            'Z' => return Ok(RegexNode::End),
            'z' if is_served => return Ok(RegexNode::End),
            'b' | 'B' => return Ok(RegexNode::Boundary { negated: letter == 'B', ascii: flags.ascii }),
            'p' | 'P' if is_served => {
                let item = self.property(letter == 'P', at)?;
                return Ok(RegexNode::Set(CharacterSet { negated: false, items: vec![item], flags }));
            }
            '0' => {
                let digits = self.tokens.eat_while(2, |c| c.is_digit(8));
                escapes::octal(&format!("0{digits}"), at)?
            }
            '1'..='9' => return self.back_reference_or_octal(letter, at, flags),
            _ => match escapes::character(&mut self.tokens, letter, at)? {
                Some(code) => code,
                None => return Err(escapes::bad(&self.tokens, at)),
            },
        };
        Ok(RegexNode::Literal { code, flags })
    }

    fn back_reference_or_octal(&mut self, first: char, at: usize, flags: RegexFlags) -> Result<RegexNode, RegexFault> {
        let mut digits = format!("{first}{}", self.tokens.eat_while(1, |c| c.is_ascii_digit()));
        if digits.len() == 2 && digits.chars().all(|c| c.is_digit(8)) {
            digits += &self.tokens.eat_while(1, |c| c.is_digit(8));
            if digits.len() == 3 {
                return Ok(RegexNode::Literal { code: escapes::octal(&digits, at)?, flags });
            }
        }
        // At most two digits.
        let group = digits.parse().unwrap_or(0);
        self.back_reference(group, at, flags)
    }

    pub(super) fn back_reference(
        &mut self,
        group: usize,
        at: usize,
        flags: RegexFlags,
    ) -> Result<RegexNode, RegexFault> {
        match self.groups.get(group) {
            None => Err(no_group(group, at)),
            Some(None) => Err(RegexFault::new(format!("group {group} refers to itself"), at)),
            Some(Some(width)) => {
                let width = *width;
                self.outside_look_behind(group, at)?;
                Ok(RegexNode::BackReference { group, flags, width })
            }
        }
    }

    /// Refuses a look-behind that refers to a group of its own.
    pub(super) fn outside_look_behind(&self, group: usize, at: usize) -> Result<(), RegexFault> {
        let Some(before) = self.behind else { return Ok(()) };
        let is_closed = self.groups.get(group).is_some_and(Option::is_some);
        if !is_closed || group >= before {
            return Err(RegexFault::new(
                format!("the look-behind refers to group {group}, which is not before it"),
                at,
            ));
        }
        Ok(())
    }

    fn property(&mut self, negated: bool, at: usize) -> Result<SetItem, RegexFault> {
        let name = if self.tokens.eat('{') {
            self.tokens.name_until('}')?
        } else {
            self.tokens.eat_while(1, |c| c.is_ascii_alphabetic())
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_=:^".contains(c)) {
            return Err(RegexFault::new("`\\p` names no property", at));
        }
        Ok(SetItem::Property { name, negated })
    }

    /// Reads `[…]`, whose bracket is read already.
    fn set(&mut self, start: usize, flags: RegexFlags) -> Result<RegexNode, RegexFault> {
        let unclosed = || RegexFault::new("the set of characters has no `]`", start);
        let negated = self.tokens.eat('^');
        let mut items: Vec<SetItem> = Vec::new();
        loop {
            let at = self.tokens.at();
            let token = self.tokens.next().ok_or_else(unclosed)?;
            if token == RegexToken::Plain(']') && !items.is_empty() {
                break;
            }
            let low = self.set_item(token, at)?;
            if !self.tokens.eat('-') {
                items.push(low);
                continue;
            }
            let high_at = self.tokens.at();
            let token = self.tokens.next().ok_or_else(unclosed)?;
            if token == RegexToken::Plain(']') {
                items.extend([low, SetItem::Range(u32::from('-'), u32::from('-'))]);
                break;
            }
            match (low, self.set_item(token, high_at)?) {
                (SetItem::Range(low, _), SetItem::Range(high, _)) if low <= high => {
                    items.push(SetItem::Range(low, high));
                }
                _ => return Err(RegexFault::new(format!("`{}` is no range", self.tokens.since(at)), at)),
            }
        }
        Ok(RegexNode::Set(CharacterSet { negated, items, flags }))
    }

    fn set_item(&mut self, token: RegexToken, at: usize) -> Result<SetItem, RegexFault> {
        let is_served = self.grammar == RegexGrammar::Served;
        let letter = match token {
            RegexToken::Plain('[') if is_served => {
                for (name, property) in POSIX {
                    let negated = self.tokens.eat_text(&format!(":^{name}:]"));
                    if negated || self.tokens.eat_text(&format!(":{name}:]")) {
                        return Ok(SetItem::Property { name: property.to_owned(), negated });
                    }
                }
                return Ok(SetItem::Range(u32::from('['), u32::from('[')));
            }
            RegexToken::Plain(plain) => return Ok(SetItem::Range(u32::from(plain), u32::from(plain))),
            RegexToken::Escaped(letter) => letter,
        };
        if let Some(item) = escapes::category(letter) {
            return Ok(item);
        }
        let code = match letter {
            'b' => 0x08,
            'p' | 'P' if is_served => return self.property(letter == 'P', at),
            '0'..='7' => {
                let digits = self.tokens.eat_while(2, |c| c.is_digit(8));
                escapes::octal(&format!("{letter}{digits}"), at)?
            }
            _ => match escapes::character(&mut self.tokens, letter, at)? {
                Some(code) => code,
                None => return Err(escapes::bad(&self.tokens, at)),
            },
        };
        Ok(SetItem::Range(code, code))
    }
}

/// POSIX classes of `regex`, by properties of the same characters.
const POSIX: [(&str, &str); 7] = [
    ("alpha", "Alphabetic"),
    ("digit", "Nd"),
    ("lower", "Lowercase"),
    ("upper", "Uppercase"),
    ("punct", "P"),
    ("space", "White_Space"),
    ("xdigit", "Hex_Digit"),
];

//! How transformers reads a list of modules that stay unquantized: each entry as a regex from the start of a name, in which a dot
//! stands for any character, and as the name's end.

/// The entries of a list, asked once for each of up to tens of thousands of names.
pub(super) struct TransformersList {
    starts: Tree,
    ends: Tree,
}

/// Entries by their bytes, so that a name meets only those that go on like it.
struct Tree {
    forks: Vec<Fork>,
}

#[derive(Default)]
struct Fork {
    /// Place in the list of the first entry that ends here.
    entry: Option<usize>,
    next: Vec<(u8, usize)>,
}

impl TransformersList {
    pub(super) fn new(entries: &[&str]) -> Self {
        let bytes = || entries.iter().map(|entry| entry.bytes());
        Self { starts: Tree::new(bytes()), ends: Tree::new(bytes().map(Iterator::rev)) }
    }

    /// Finds the first entry that transformers takes this name for; gives its place in the list.
    pub(super) fn hit(&self, name: &str) -> Option<usize> {
        let name = name.as_bytes();
        let by_start =
            self.starts.first(|depth| name.get(depth).copied(), |entry, byte| entry == b'.' || entry == byte);
        let from_end = |depth| name.len().checked_sub(depth + 1).map(|at| name[at]);
        let by_end = self.ends.first(from_end, |entry, byte| entry == byte);
        by_start.into_iter().chain(by_end).min()
    }
}

impl Tree {
    fn new(entries: impl Iterator<Item = impl Iterator<Item = u8>>) -> Self {
        let mut tree = Self { forks: vec![Fork::default()] };
        for (entry, bytes) in entries.enumerate() {
            let end = bytes.fold(0, |at, byte| tree.child(at, byte));
            tree.forks[end].entry.get_or_insert(entry);
        }
        tree
    }

    /// Goes on from a fork by this byte, by a new way where there is none yet.
    fn child(&mut self, at: usize, byte: u8) -> usize {
        if let Some((_, next)) = self.forks[at].next.iter().find(|(other, _)| *other == byte) {
            return *next;
        }
        let new = self.forks.len();
        self.forks.push(Fork::default());
        self.forks[at].next.push((byte, new));
        new
    }

    /// Finds the first entry of the list whose bytes are all `alike` those that the name has at the same depth.
    fn first(&self, byte_at: impl Fn(usize) -> Option<u8>, alike: impl Fn(u8, u8) -> bool) -> Option<usize> {
        let mut found: Option<usize> = None;
        let mut open = vec![(0, 0)];
        while let Some((at, depth)) = open.pop() {
            let fork = &self.forks[at];
            found = found.into_iter().chain(fork.entry).min();
            if let Some(byte) = byte_at(depth) {
                let next = fork.next.iter().filter(|(entry, _)| alike(*entry, byte));
                open.extend(next.map(|(_, next)| (*next, depth + 1)));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hits(entry: &str, name: &str) -> bool {
        TransformersList::new(&[entry]).hit(name).is_some()
    }

    #[test]
    fn entries_are_read_as_starts_with_dots_for_anything_and_as_ends() {
        assert!(hits("model.layers.0.mlp.gate", "model.layers.0.mlp.gate_proj"));
        assert!(hits("model.layers.0.mlp.gate", "model.layers.0_mlp.gate"));
        assert!(hits("lm_head", "model.lm_head"));
        assert!(!hits("model.layers.10.mlp.gate", "model.layers.1.mlp.gate"));
        assert!(!hits("mlp.gate", "model.layers.0.mlp.gate_proj"));
    }

    proptest! {
        #[test]
        fn the_first_entry_is_found_that_a_look_at_each_finds(
            entries in prop::collection::vec("[a.]{1,4}", 0..8),
            name in "[ab.]{0,6}",
        ) {
            let begins = |entry: &str| {
                let same = |(entry, name): (u8, u8)| entry == b'.' || entry == name;
                entry.len() <= name.len() && entry.bytes().zip(name.bytes()).all(same)
            };
            let entries: Vec<_> = entries.iter().map(String::as_str).collect();
            let first = entries.iter().position(|entry| begins(entry) || name.ends_with(*entry));
            prop_assert_eq!(TransformersList::new(&entries).hit(&name), first);
        }
    }
}

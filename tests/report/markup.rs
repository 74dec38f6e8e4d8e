//! A reader of the pages, strict enough to find an element that is not closed.

use std::collections::BTreeSet;

/// What a page is made of.
#[derive(Debug, Default)]
pub(super) struct Markup {
    /// Elements by name, with their attributes as they are written.
    pub(super) elements: Vec<(String, String)>,
    /// The text of all elements but the style sheet.
    pub(super) text: String,
}

impl Markup {
    /// Reads a page.
    pub(super) fn read(page: &str) -> Self {
        let mut rest = page.strip_prefix("<!doctype html>\n").expect("a page begins with its doctype");
        let (mut markup, mut open) = (Self::default(), Vec::<String>::new());
        while let Some(at) = rest.find('<') {
            if open.last().is_none_or(|name| name != "style") {
                markup.text.push_str(&rest[..at]);
            }
            let end = at + rest[at..].find('>').expect("a tag ends");
            let tag = &rest[at + 1..end];
            rest = &rest[end + 1..];
            if let Some(closed) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(closed), "closed in the order of opening");
                continue;
            }
            let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            let name = name.trim_end_matches('/').to_owned();
            assert_eq!(attributes.matches('"').count() % 2, 0, "{tag}");
            if !attributes.ends_with('/') && !["meta", "br", "wbr"].contains(&name.as_str()) {
                open.push(name.clone());
            }
            markup.elements.push((name, attributes.to_owned()));
        }
        assert_eq!(open, Vec::<String>::new(), "all elements are closed");
        markup
    }

    /// The values of an attribute, in order.
    pub(super) fn values(&self, attribute: &str) -> Vec<&str> {
        let start = format!("{attribute}=\"");
        let of = |attributes: &'_ str| {
            let from = attributes.find(&start)? + start.len();
            Some(from..from + attributes[from..].find('"')?)
        };
        self.elements.iter().filter_map(|(_, attributes)| Some(&attributes[of(attributes)?])).collect()
    }

    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.elements.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Holds what holds of every page.
    pub(super) fn check(&self) {
        let known: BTreeSet<&str> = "a body br caption code dd div dl dt figcaption figure footer g h1 h2 h3 head header \
                                     html li main meta nav p path pre rect section span strong style svg table tbody td \
                                     text th thead title tr ul wbr"
            .split_whitespace()
            .collect();
        let strange: Vec<_> = self.names().difference(&known).copied().map(str::to_owned).collect();
        assert!(strange.is_empty(), "{strange:?}");
        let ids: Vec<&str> = self.values("id");
        assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "{ids:?}");
        for link in self.values("href") {
            assert!(ids.contains(&link.strip_prefix('#').expect(link)), "{link} leads nowhere");
        }
        for (name, attributes) in &self.elements {
            assert!(!attributes.contains(" on") && !attributes.contains("src="), "{name} {attributes}");
            assert!(name != "svg" || attributes.contains("role=\"img\" aria-label=\""), "{attributes}");
        }
        let headings: Vec<usize> =
            self.elements.iter().filter_map(|(name, _)| name.strip_prefix('h')?.parse().ok()).collect();
        assert!(headings.windows(2).all(|pair| pair[1] <= pair[0] + 1) && headings[0] == 1, "{headings:?}");
    }
}

//! A report: one page of HTML that says what a result is, how far it is from its source, and how it was made.
//!
//! The page is complete in itself: no script, no picture and no font from elsewhere, so that it can be read without a
//! network, mailed and printed. All that comes from a checkpoint is escaped by `markup`.

mod content;
mod faults;
mod head;
mod layout;
mod making;
mod map;
mod markup;
mod place;
mod plots;
mod quality;
mod serving;
mod steps;

pub use content::{DRAWN, MARKER, MARKER_WITHIN, Machine, Report};

impl Report<'_> {
    /// Returns the page.
    pub fn html(&self) -> String {
        let mut sections = Vec::new();
        sections.extend(faults::section(self));
        sections.push(head::done(self));
        sections.extend(head::sizes(self));
        sections.extend(map::section(self.verification));
        sections.extend(quality::worst(self.verification, self.distributions));
        sections.extend(quality::by_storage(self.verification));
        sections.extend(quality::by_kind(self.verification));
        sections.extend(making::unquantized(self));
        sections.extend(serving::section(self));
        sections.extend(making::timings(self));
        sections.push(making::machine(self));
        sections.extend(making::manifest(self));
        layout::page(self, &head::verdict(self), &sections)
    }
}

//! Q501 to Q511: the result against its source.

pub(crate) mod folder;
pub(crate) mod reference;
pub(crate) mod tensors;
pub(crate) mod threshold;

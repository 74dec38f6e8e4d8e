//! The declaration of a storage form in a compressed-tensors config, as data that config/ compares with what it
//! reads.

/// The values that a group must have for weights in a storage form, and for activations beside them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declaration {
    /// The names under `format`.
    pub(crate) formats: &'static [&'static str],
    /// `num_bits` of the weights.
    pub(crate) bits: u32,
    /// `type` of the weights: `float` or `int`.
    pub(crate) number: &'static str,
    /// Values of `symmetric` for the weights.
    pub(crate) symmetric: Symmetry,
    /// Values of `scale_dtype`, the one to recommend first; an empty text stands for a missing key.
    pub(crate) scale_dtypes: &'static [&'static str],
    pub(crate) strategies: Strategies,
    /// `num_bits` and `type` of activations that servers have kernels for.
    pub(crate) activations: &'static [(u64, &'static str)],
}

/// The values of `symmetric` that a storage form allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Symmetry {
    /// The key must be true: the form has no zero points.
    Always,
    /// The key must be there, and declares this form where it has this value.
    Declared(bool),
}

/// The strategies of weights that a storage form allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategies {
    /// One of these; `group` and `block` come with a size.
    Any(&'static [&'static str]),
    /// This one with groups of this many columns, for activations too.
    Group(&'static str, usize),
}

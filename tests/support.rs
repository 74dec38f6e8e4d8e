//! Checkpoints, recipes and plans for the tests, and judges of what becomes of them.

pub(crate) mod fixture;
pub(crate) mod folder;
pub(crate) mod ground;
pub(crate) mod hub;
pub(crate) mod judge;
pub(crate) mod program;
pub(crate) mod proof;
pub(crate) mod random;
pub(crate) mod rust_imports;
pub(crate) mod rust_source;
pub(crate) mod scene;
pub(crate) mod shapes;
pub(crate) mod terminal;

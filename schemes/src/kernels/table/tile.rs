//! Elements that are cast together.

use crate::kernels::amax::TILE;

/// Elements that are looked at together, each quarter of them under one scale.
pub(super) type Tile = [[u8; 2]; TILE];

/// Their codes.
pub(super) type TileCodes = [u8; TILE];

/// Elements of a group of MX.
pub(super) const QUARTER: usize = TILE / 4;

pub(super) type Half = [[u8; 2]; TILE / 2];
pub(super) type HalfCodes = [u8; TILE / 2];

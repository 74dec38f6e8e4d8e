//! `awq` and `gptq`: integers in 32-bit words, with all tensors of a weight transposed.

use std::sync::LazyLock;

use safetensors::Dtype;

use super::auxiliary::{AuxRole, AuxTensor};
use super::declaration::{Declaration, Strategies, Symmetry};
use super::form::{CodesTensor, Storage};
use super::qparams::{Extremes, Qparams, Rounding, absmax_scale};
use super::words::{TransposedStorage, TransposedWords};
use crate::decode::codebook::{self, Codebook};
use crate::decode::packing::Packing;

/// Every form of the two methods.
static ALL: LazyLock<Vec<TransposedStorage>> = LazyLock::new(|| {
    let mut all = vec![TransposedStorage { bits: 4, words: TransposedWords::Rows }];
    for bits in [2, 4, 8] {
        for (less_one, ordered) in [(false, false), (false, true), (true, false), (true, true)] {
            all.push(TransposedStorage { bits, words: TransposedWords::Columns { less_one, ordered } });
        }
    }
    all
});

/// Returns such a form; that of AWQ, should there be none.
pub(super) fn known(form: TransposedStorage) -> &'static TransposedStorage {
    ALL.iter().find(|known| **known == form).unwrap_or(&ALL[0])
}

impl Storage for TransposedStorage {
    fn name(&self) -> String {
        match self.words {
            TransposedWords::Rows => "AWQ".to_owned(),
            TransposedWords::Columns { less_one, ordered } => {
                let version = if less_one { "" } else { " v2" };
                let order = if ordered { " with groups of any columns" } else { "" };
                format!("GPTQ INT{}{version}{order}", self.bits)
            }
        }
    }

    fn declaration(&self) -> Declaration {
        // No config of compressed-tensors declares these.
        Declaration {
            formats: &[],
            bits: self.bits,
            number: "int",
            symmetric: Symmetry::Declared(false),
            scale_dtypes: &[""],
            strategies: Strategies::Any(&[]),
            activations: &[],
        }
    }

    fn codes(&self) -> CodesTensor {
        CodesTensor { suffix: "qweight", dtype: Dtype::I32, packing: Packing::Words(self.bits) }
    }

    fn codebook(&self) -> &'static Codebook {
        codebook::integers(self.bits)
    }

    fn scale_suffixes(&self) -> &'static [&'static str] {
        &["scales"]
    }

    fn auxiliary(&self) -> Vec<AuxTensor> {
        let of = |suffix, role| AuxTensor { suffix, dtype: Dtype::I32, role };
        let mut tensors = vec![of("qzeros", AuxRole::TransposedZeroPoints { bits: self.bits })];
        if let TransposedWords::Columns { ordered, .. } = self.words {
            tensors.push(of("g_idx", AuxRole::GroupsOfColumns { required: ordered }));
        }
        tensors
    }

    fn transposed(&self) -> Option<TransposedStorage> {
        Some(*self)
    }

    // Both methods fit scales to data, and no rule tells them.
    fn reference(&self, group: Extremes, rounding: Rounding) -> Qparams {
        Qparams { scale: absmax_scale(group.amax(), self.codebook().largest, rounding.scale), zero: 0.0 }
    }
}

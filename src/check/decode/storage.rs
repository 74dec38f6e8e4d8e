//! The storage forms: which tensors each takes, which values their bytes stand for, and which scales the reference
//! makes.
//!
//! A form is one file below `storage/`, its `mod` line here and its entry in [`FILES`]. Everything else asks it:
//! config/ what `quantization_config` must say, the rules which tensors it has, the decoder how to read them.

mod auxiliary;
mod declaration;
mod form;
mod fp8;
mod integers;
mod microscaled;
mod nvfp4;
mod qparams;
mod searched;
mod transposed;
mod words;

use std::sync::LazyLock;

use safetensors::Dtype;

pub(crate) use auxiliary::{AuxRole, AuxTensor};
pub(crate) use declaration::{Strategies, Symmetry};
use form::StorageForms;
pub(crate) use form::{CodesTensor, Storage};
pub(crate) use qparams::{Extremes, Qparams, Rounding};
pub(crate) use searched::SearchedError;
pub(crate) use words::{TransposedStorage, TransposedWords};

/// The files of this folder that hold storage forms, each by the function that lists its forms.
const FILES: &[fn() -> StorageForms] = &[fp8::forms, integers::forms, microscaled::forms, nvfp4::forms];

/// Every storage form.
static FORMS: LazyLock<StorageForms> = LazyLock::new(|| {
    let all = FILES.iter().flat_map(|forms| forms());
    all.collect()
});

/// A form of a method that names no format, so that the table cannot be asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfficialForm {
    /// FP8 of the `fp8` method.
    Fp8,
    /// FP8 of the `fp8` method whose scales are said to be powers of two.
    Fp8PowersOfTwo,
    /// MXFP8 of the `mxfp8` method.
    Mxfp8,
    /// MXFP4 of DeepSeek-V4's experts.
    Mxfp4,
    /// NVFP4 of ModelOpt.
    Nvfp4,
    /// AWQ or GPTQ.
    Transposed(TransposedStorage),
}

/// Returns such a form.
pub(crate) fn official(form: OfficialForm) -> &'static dyn Storage {
    use fp8::{Fp8Scales, Fp8Storage};
    use microscaled::{MicroscaledElement, MicroscaledNames, MicroscaledStorage};
    use nvfp4::{Nvfp4Maker, Nvfp4Storage};
    const NAMES: MicroscaledNames = MicroscaledNames::Official;
    match form {
        OfficialForm::Fp8 => &Fp8Storage { scales: Fp8Scales::FloatsOrExponents },
        OfficialForm::Fp8PowersOfTwo => &Fp8Storage { scales: Fp8Scales::PowersOfTwo },
        OfficialForm::Mxfp8 => &MicroscaledStorage { element: MicroscaledElement::E4M3, names: NAMES },
        OfficialForm::Mxfp4 => &MicroscaledStorage { element: MicroscaledElement::E2M1, names: NAMES },
        OfficialForm::Nvfp4 => &Nvfp4Storage { by: Nvfp4Maker::ModelOpt },
        OfficialForm::Transposed(form) => transposed::known(form),
    }
}

/// Every form, that of the table and the others.
fn all_forms() -> impl Iterator<Item = &'static dyn Storage> {
    use OfficialForm::{Fp8, Fp8PowersOfTwo, Mxfp4, Mxfp8, Nvfp4, Transposed};
    // The names of AWQ's tensors are among GPTQ's, whatever the bits are.
    let words = TransposedWords::Columns { less_one: true, ordered: true };
    let gptq = Transposed(TransposedStorage { bits: 4, words });
    FORMS.iter().map(|form| &**form).chain([Fp8, Fp8PowersOfTwo, Mxfp8, Mxfp4, Nvfp4, gptq].map(official))
}

/// Lists the forms that a compressed-tensors config calls by this format.
pub(crate) fn in_format(format: &str) -> impl Iterator<Item = &'static dyn Storage> {
    FORMS.iter().map(|form| &**form).filter(move |form| form.declaration().formats.contains(&format))
}

/// Reports whether a tensor with this parameter name and dtype holds codes of some form.
///
/// A name other than `weight` decides alone; a plain `weight` is codes where its dtype is one that codes have.
pub(crate) fn is_codes(parameter: &str, dtype: Dtype) -> bool {
    CODES.iter().any(|codes| is_packed_name(codes, parameter) || codes.suffix == "weight" && codes.dtype == dtype)
}

/// Reports whether a parameter holds codes that do not go by the name `weight`.
pub(crate) fn is_packed_codes(parameter: &str) -> bool {
    CODES.iter().any(|codes| is_packed_name(codes, parameter))
}

fn is_packed_name(codes: &CodesTensor, parameter: &str) -> bool {
    codes.suffix != "weight" && codes.suffix == parameter
}

/// Reports whether a parameter belongs to a quantized weight in some form: codes, scales or an auxiliary tensor.
pub(crate) fn is_auxiliary(parameter: &str) -> bool {
    AUXILIARY.contains(&parameter)
}

/// The tensors of codes of all forms, each once.
static CODES: LazyLock<Vec<CodesTensor>> = LazyLock::new(|| {
    let mut codes: Vec<CodesTensor> = Vec::new();
    for form in all_forms() {
        if !codes.contains(&form.codes()) {
            codes.push(form.codes());
        }
    }
    codes
});

/// Parameter names of all forms but `weight`, each once.
static AUXILIARY: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut names: Vec<&str> = all_forms()
        .flat_map(|form| {
            let auxiliary = form.auxiliary().into_iter().map(|tensor| tensor.suffix);
            let scales = form.scale_suffixes().iter().copied();
            auxiliary.chain(scales).chain([form.codes().suffix]).collect::<Vec<_>>()
        })
        // Norms have a `scale` too, and others `scales`: they belong to a weight where codes stand beside them.
        .filter(|name| !matches!(*name, "weight" | "scale" | "scales"))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_a_name_of_its_own_and_is_found_by_its_format() {
        let mut names: Vec<String> = FORMS.iter().map(|form| form.name()).collect();
        for form in FORMS.iter() {
            let formats = form.declaration().formats;
            assert!(formats.iter().all(|format| in_format(format).any(|found| found.name() == form.name())));
        }
        let forms = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), forms);
    }

    #[test]
    fn tensors_are_recognised_by_the_names_of_all_forms() {
        let of = |parameter| is_auxiliary(parameter);
        assert!(of("weight_scale") && of("weight_packed") && of("weight_global_scale") && of("weight_zero_point"));
        assert!(!of("weight") && !of("bias"));
        assert!(is_codes("weight_packed", Dtype::F32) && is_packed_codes("weight_packed"));
        assert!(is_codes("weight", Dtype::F8_E4M3) && is_codes("weight", Dtype::I8) && !is_packed_codes("weight"));
        assert!(!is_codes("weight", Dtype::BF16) && !is_codes("weight", Dtype::I64) && is_codes("weight", Dtype::U8));
    }
}

//! Codes and scales from a seed, with the BF16 weights that the rules of the reference would make them of.
//!
//! A code is four bits of mantissa at most and a scale three, so that BF16 holds their product; and each granule holds one
//! weight that its scale follows from.

use half::{bf16, f16};

use super::layout::{Form, Kind};
use crate::support::folder::Tensor;
use crate::support::random::Random;

/// What a weight becomes.
pub(super) struct Made {
    /// Tensors by the end of their name, after the module's.
    pub(super) tensors: Vec<(&'static str, Tensor)>,
    /// Parameter name of the scale.
    pub(super) scale: String,
    /// The weights as BF16; `None` for forms whose scales are a search's.
    pub(super) weights: Option<Vec<u8>>,
}

/// The numbers of a format.
#[derive(Clone, Copy)]
enum Element {
    /// E4M3, of which this is the largest in a granule.
    E4m3(u8),
    E2m1,
    /// Two's complement.
    Int(u32),
}

/// Codes, one each, with the scales of granules and the weights.
struct Granules {
    codes: Vec<u8>,
    scales: Vec<f32>,
    weights: Vec<f32>,
}

const MANTISSAS: [f32; 4] = [1.0, 1.25, 1.5, 1.75];

fn power(random: &mut Random) -> f32 {
    2f32.powi(-8 - (random.next() % 5) as i32)
}

fn float(random: &mut Random) -> f32 {
    power(random) * MANTISSAS[random.next() as usize % 4]
}

pub(super) fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7) / 8.0);
    let value = if exponent == 0 { mantissa * 2f32.powi(-6) } else { (1.0 + mantissa) * 2f32.powi(exponent - 7) };
    if code & 0x80 == 0 { value } else { -value }
}

fn e2m1(code: u8) -> f32 {
    let value = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0][usize::from(code & 7)];
    if code & 8 == 0 { value } else { -value }
}

impl Element {
    /// A code and the factor of the scale that its weight is; the largest of a granule, or any other.
    fn code(self, is_largest: bool, random: &mut Random) -> (u8, f32) {
        let any = random.next();
        match self {
            Self::E4m3(largest) => {
                let code = if is_largest { largest } else { (any % (u32::from(largest) + 1)) as u8 };
                let code = code | ((any >> 16) as u8 & 0x80);
                (code, e4m3(code))
            }
            Self::E2m1 => {
                let code = if is_largest { 7 | any as u8 & 8 } else { any as u8 & 15 };
                (code, e2m1(code))
            }
            // Half a step beyond the last code but one: that is what the reference divides by.
            Self::Int(bits) if is_largest => {
                let code = 1i32 << (bits - 1);
                (-code as u8, 0.5 - code as f32)
            }
            Self::Int(bits) => {
                let most = (1i32 << (bits - 1)) - 1;
                let code = (any % (2 * most as u32 + 1)) as i32 - most;
                (code as u8, code as f32)
            }
        }
    }
}

impl Granules {
    fn of(
        [rows, columns]: [usize; 2],
        sides: [usize; 2],
        element: Element,
        scales: &[f32],
        random: &mut Random,
    ) -> Self {
        let across = columns.div_ceil(sides[1]);
        let mut made = Self { codes: Vec::new(), scales: scales.to_vec(), weights: Vec::new() };
        for row in 0..rows {
            for column in 0..columns {
                let is_first = row % sides[0] == 0 && column % sides[1] == 0;
                let (code, factor) = element.code(is_first, random);
                made.codes.push(code);
                made.weights.push(factor * scales[row / sides[0] * across + column / sides[1]]);
            }
        }
        made
    }

    fn weights(&self) -> Option<Vec<u8>> {
        let exact = |weight: &f32| {
            let rounded = bf16::from_f32(*weight);
            assert_eq!(rounded.to_f32(), *weight, "BF16 holds every weight");
            rounded.to_le_bytes()
        };
        Some(self.weights.iter().flat_map(exact).collect())
    }
}

/// Stores floats as a dtype.
pub(super) fn stored(dtype: &str, shape: &[usize], values: &[f32]) -> Tensor {
    let bytes = |value: &f32| match dtype {
        "F32" => value.to_le_bytes().to_vec(),
        "BF16" => bf16::from_f32(*value).to_le_bytes().to_vec(),
        "F16" => f16::from_f32(*value).to_le_bytes().to_vec(),
        "F8_E8M0" | "U8" => vec![(value.to_bits() >> 23) as u8],
        other => panic!("no floats are stored as {other}"),
    };
    tensor(dtype, shape, values.iter().flat_map(bytes).collect())
}

fn tensor(dtype: &str, shape: &[usize], bytes: Vec<u8>) -> Tensor {
    Tensor { dtype: dtype.to_owned(), shape: shape.to_vec(), bytes }
}

fn nibbles(codes: &[u8]) -> Vec<u8> {
    codes.as_chunks::<2>().0.iter().map(|[first, second]| first & 15 | second << 4).collect()
}

/// Makes what a weight of this shape is stored as.
pub(super) fn made(kind: &Kind, shape: &[usize], random: &mut Random) -> Made {
    match kind.form {
        Form::Mxfp4Stack => stack(shape, random),
        Form::Awq | Form::Gptq => transposed(kind, [shape[0], shape[1]], random),
        _ => matrix(kind, [shape[0], shape[1]], random),
    }
}

fn matrix(kind: &Kind, shape: [usize; 2], random: &mut Random) -> Made {
    const LARGEST: u8 = 0x7E;
    // 416: from 1.75 times a power of two on, the reference takes the next one.
    const LARGEST_UNDER_EXPONENTS: u8 = 0x7D;
    let [rows, columns] = shape;
    let (element, sides) = match kind.form {
        Form::Fp8Blocks => (Element::E4m3(LARGEST), [128, 128]),
        Form::Fp8Rows => (Element::E4m3(LARGEST), [1, columns]),
        Form::Fp8Tensor => (Element::E4m3(LARGEST), [rows, columns]),
        Form::Mxfp8 => (Element::E4m3(LARGEST_UNDER_EXPONENTS), [1, 32]),
        Form::Mxfp4Bytes => (Element::E2m1, [1, 32]),
        Form::Nvfp4 | Form::ModeloptNvfp4 => return nvfp4(kind, shape, random),
        Form::PackedInt4 => (Element::Int(4), [1, kind.group]),
        Form::Int8Rows => (Element::Int(8), [1, columns]),
        Form::Mxfp4Stack | Form::Awq | Form::Gptq => unreachable!("of another function"),
    };
    let grid = [rows.div_ceil(sides[0]), columns.div_ceil(sides[1])];
    let scale =
        if kind.powers || matches!(kind.form, Form::Int8Rows | Form::Mxfp8 | Form::Mxfp4Bytes) { power } else { float };
    let scales: Vec<f32> = (0..grid[0] * grid[1]).map(|_| scale(random)).collect();
    let granules = Granules::of(shape, sides, element, &scales, random);
    let codes = match kind.form {
        Form::Mxfp4Bytes => (".weight", tensor("I8", &[rows, columns / 2], nibbles(&granules.codes))),
        Form::PackedInt4 => {
            let raised: Vec<u8> = granules.codes.iter().map(|code| code.wrapping_add(8)).collect();
            (".weight_packed", tensor("I32", &[rows, columns / 8], nibbles(&raised)))
        }
        Form::Int8Rows => (".weight", tensor("I8", &shape, granules.codes.clone())),
        _ => (".weight", tensor("F8_E4M3", &shape, granules.codes.clone())),
    };
    let mut tensors = vec![codes];
    if kind.form == Form::PackedInt4 {
        let said = shape.iter().flat_map(|side| (*side as i64).to_le_bytes()).collect();
        tensors.push((".weight_shape", tensor("I64", &[2], said)));
    }
    let scale_shape: &[usize] = if kind.form == Form::Fp8Tensor { &[] } else { &grid };
    let scale = stored(&kind.scale_dtype, scale_shape, &granules.scales);
    finished(kind, tensors, scale, random, granules.weights())
}

/// Codes under scales in E4M3, and these under one for the matrix that all layers share.
fn nvfp4(kind: &Kind, shape: [usize; 2], random: &mut Random) -> Made {
    const GROUP: usize = 16;
    // Times the largest weight it is the largest scale times the largest code.
    const GLOBAL: f32 = 1024.0;
    let [rows, columns] = shape;
    let mut bytes: Vec<u8> = (0..rows * columns / GROUP).map(|_| 0x40 + (random.next() % 0x3F) as u8).collect();
    bytes[0] = 0x7E;
    let scales: Vec<f32> = bytes.iter().map(|byte| e4m3(*byte) / GLOBAL).collect();
    let granules = Granules::of(shape, [1, GROUP], Element::E2m1, &scales, random);
    let packed = tensor("U8", &[rows, columns / 2], nibbles(&granules.codes));
    let scale = tensor("F8_E4M3", &[rows, columns / GROUP], bytes);
    let tensors = match kind.form {
        Form::Nvfp4 => vec![(".weight_packed", packed), (".weight_global_scale", stored("F32", &[1], &[GLOBAL]))],
        _ => vec![(".weight", packed), (".weight_scale_2", stored("F32", &[], &[1.0 / GLOBAL]))],
    };
    finished(kind, tensors, scale, random, granules.weights())
}

fn finished(
    kind: &Kind,
    mut tensors: Vec<(&'static str, Tensor)>,
    scale: Tensor,
    random: &mut Random,
    weights: Option<Vec<u8>>,
) -> Made {
    // One string for each of a few names, for as long as the tests run.
    let leaked = |name: &str| -> &'static str { Box::leak(format!(".{name}").into_boxed_str()) };
    tensors.push((leaked(&kind.scale), scale));
    if let Some([name, dtype]) = &kind.activations {
        let shape: &[usize] = if kind.form == Form::Nvfp4 { &[1] } else { &[] };
        let value = if kind.form == Form::Nvfp4 { 64.0 } else { float(random) };
        tensors.push((leaked(name), stored(dtype, shape, &[value])));
    }
    Made { tensors, scale: format!(".{}", kind.scale), weights }
}

/// A stack of experts as blocks and scales; its weights would lie transposed.
fn stack(shape: &[usize], random: &mut Random) -> Made {
    let &[experts, inputs, outputs] = shape else { panic!("a stack has three dimensions") };
    let shape = [experts, outputs, inputs / 32];
    let blocks = (0..experts * outputs * inputs / 2).map(|_| random.next() as u8).collect();
    let scales: Vec<f32> = (0..shape.iter().product()).map(|_| power(random)).collect();
    let tensors = vec![
        ("_blocks", tensor("U8", &[experts, outputs, inputs / 32, 16], blocks)),
        ("_scales", stored("U8", &shape, &scales)),
    ];
    Made { tensors, scale: "_scales".to_owned(), weights: None }
}

/// A weight whose tensors are transposed, four bits.
fn transposed(kind: &Kind, [rows, columns]: [usize; 2], random: &mut Random) -> Made {
    let groups = columns / kind.group;
    let mut words = |shape: [usize; 2]| {
        let bytes = (0..shape[0] * shape[1] * 4).map(|_| random.next() as u8).collect();
        tensor("I32", &shape, bytes)
    };
    let mut tensors = match kind.form {
        Form::Awq => vec![(".qweight", words([columns, rows / 8])), (".qzeros", words([groups, rows / 8]))],
        // Symmetric: the zero point is 8, stored less one.
        _ => vec![
            (".qweight", words([columns / 8, rows])),
            (".qzeros", tensor("I32", &[groups, rows / 8], vec![0x77; groups * rows / 2])),
        ],
    };
    let scales: Vec<f32> = (0..groups * rows).map(|_| float(random)).collect();
    tensors.push((".scales", stored("F16", &[groups, rows], &scales)));
    if kind.form == Form::Gptq {
        let of_columns = (0..columns).flat_map(|column| ((column / kind.group) as i32).to_le_bytes()).collect();
        tensors.push((".g_idx", tensor("I32", &[columns], of_columns)));
    }
    Made { tensors, scale: ".scales".to_owned(), weights: None }
}

//! A strict reader of the safetensors header.
//!
//! It refuses more than the `safetensors` crate does: duplicate names, a rank over [`MAX_RANK`], an empty name or one
//! with a NUL, an entry written as an array, nested values under unknown keys. Memory is bounded by the header's own
//! size, which is bounded by [`MAX_HEADER`] and the file.

use std::cmp::Ordering;
use std::fmt;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest as _, Sha256};

use crate::checksum::hexadecimal;
use crate::source::{SourceError, SourceFile};
use crate::text::{apart, exact, sentence, shown};

/// The largest header that the format allows, in bytes.
pub const MAX_HEADER: u64 = 100_000_000;

/// Bytes that are read first where nothing tells how long a header is: enough to know what else a file may be.
pub(crate) const LEAST_GUESS: u64 = 64;

/// The most dimensions a tensor may have. No model has more than six; the format sets no limit, so that one shape may
/// fill a header of 100 MB.
pub const MAX_RANK: usize = 16;

/// The tensors of one safetensors file; together they cover its data exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The tensors in order of (offset, name).
    pub tensors: Vec<HeaderTensor>,
    /// Offset of the data in the file.
    pub data_start: u64,
}

/// One tensor of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Offset of the first byte, counted from [`Header::data_start`].
    pub begin: u64,
    /// Offset after the last byte.
    pub end: u64,
}

/// A reason to refuse a header.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("the file is {what}, not a safetensors file")]
    NotSafetensors { what: Impostor },
    #[error("the file has {}: too short for a safetensors header", exact(*size))]
    TooShort { size: u64 },
    #[error("the header is too large: {}, the limit is {}", apart(*length, MAX_HEADER)[0], apart(*length, MAX_HEADER)[1])]
    TooLarge { length: u64 },
    #[error("the file is truncated: its header has {}, the file only {}", exact(*length), exact(*size))]
    PastEnd { length: u64, size: u64 },
    #[error("the header is not UTF-8: byte {at}")]
    NotUtf8 { at: usize },
    #[error("the header is no valid JSON header: {}", sentence(detail))]
    Json { detail: String },
    #[error("tensor {}: invalid header entry: {}", shown(tensor), sentence(detail))]
    Entry { tensor: String, detail: String },
    #[error("duplicate tensor {}: the header names it more than once", shown(tensor))]
    Duplicate { tensor: String },
    #[error("tensor {}: its offsets are reversed: {begin} to {end}", shown(tensor))]
    Reversed { tensor: String, begin: u64, end: u64 },
    #[error("tensor {}: the size of its shape overflows", shown(tensor))]
    Overflow { tensor: String },
    #[error("tensor {}: its {dtype} elements end inside a byte (sub-byte size mismatch)", shown(tensor))]
    SubByte { tensor: String, dtype: Dtype },
    #[error(
        "tensor {}: size mismatch: shape {shape:?} of {dtype} takes {}, its offsets {}",
        shown(tensor),
        exact(*expected),
        exact(*found)
    )]
    SizeMismatch { tensor: String, dtype: Dtype, shape: Vec<usize>, expected: u64, found: u64 },
    #[error("tensor {}: its byte range overlaps that of tensor {}", shown(tensor), shown(other))]
    Overlap { tensor: String, other: String },
    #[error("tensor {}: a hole of {} lies before its offset", shown(tensor), exact(*bytes))]
    Hole { tensor: String, bytes: u64 },
    #[error("the file is truncated: its tensors end at byte {expected}, the file at {size}")]
    Truncated { expected: u128, size: u64 },
    #[error("the file goes on for {} after its last tensor", exact(*bytes))]
    Trailing { bytes: u64 },
    #[error(transparent)]
    Source(SourceError),
}

/// A known kind of file that bears the name of a safetensors file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impostor {
    LfsPointer,
    Html,
    Zip,
    Pickle,
    Gguf,
}

impl Header {
    /// Reads and checks the header of an open file, and returns it with the SHA-256 of its bytes. `guess` is how long it is thought to be, the eight bytes of its
    /// length included: it is read at once, and the rest where it is longer.
    ///
    /// # Errors
    /// The first thing about it that is wrong.
    pub fn read(file: &SourceFile, guess: u64) -> Result<(Self, String), HeaderError> {
        let mut start = vec![0; file.size().min(guess.clamp(LEAST_GUESS, MAX_HEADER)) as usize];
        file.read_exact_at(&mut start, 0).map_err(HeaderError::Source)?;
        // Only a file that fails is looked at this way: a valid header may begin with any length.
        let what = Impostor::of(&start[..start.len().min(LEAST_GUESS as usize)]);
        Self::read_after(start, file).map_err(|error| match what {
            Some(what) => HeaderError::NotSafetensors { what },
            None => error,
        })
    }

    fn read_after(mut start: Vec<u8>, file: &SourceFile) -> Result<(Self, String), HeaderError> {
        let size = file.size();
        let Some(length) = start.first_chunk() else {
            return Err(HeaderError::TooShort { size });
        };
        let length = u64::from_le_bytes(*length);
        // Before any memory is taken: eight bytes of a file could otherwise ask for 2^64.
        if length > MAX_HEADER {
            return Err(HeaderError::TooLarge { length });
        }
        if 8 + length > size {
            return Err(HeaderError::PastEnd { length, size });
        }
        let (read, end) = (start.len(), (8 + length) as usize);
        start.resize(end, 0);
        if read < end {
            file.read_exact_at(&mut start[read..], read as u64).map_err(HeaderError::Source)?;
        }
        Ok((Self::parse(&start[8..], size)?, hexadecimal(&Sha256::digest(&start))))
    }

    /// Checks the JSON of a header for a file of `size` bytes.
    ///
    /// # Errors
    /// The first thing about it that is wrong.
    pub fn parse(json: &[u8], size: u64) -> Result<Self, HeaderError> {
        let text = std::str::from_utf8(json).map_err(|error| HeaderError::NotUtf8 { at: error.valid_up_to() })?;
        let mut tensors = parse_entries(text)?;
        tensors.iter().try_for_each(check_size)?;
        tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(HeaderError::Duplicate { tensor: pair[0].name.clone() });
        }
        // The format forbids gaps and overlaps: bytes that no tensor covers could hold another file.
        tensors.sort_by_key(|tensor| (tensor.begin, tensor.end));
        let data_len = check_cover(&tensors)?;
        let data_start = 8 + json.len() as u64;
        let expected = u128::from(data_start) + u128::from(data_len);
        match u128::from(size).cmp(&expected) {
            Ordering::Less => Err(HeaderError::Truncated { expected, size }),
            Ordering::Greater => Err(HeaderError::Trailing { bytes: size - data_start - data_len }),
            Ordering::Equal => Ok(Self { tensors, data_start }),
        }
    }
}

impl Impostor {
    /// Recognises a file by how it begins.
    fn of(start: &[u8]) -> Option<Self> {
        let text: Vec<u8> = start.trim_ascii_start().to_ascii_lowercase();
        if text.starts_with(b"version https://git-lfs") {
            Some(Self::LfsPointer)
        } else if text.starts_with(b"<!doctype") || text.starts_with(b"<html") {
            Some(Self::Html)
        } else if start.starts_with(b"PK\x03\x04") {
            Some(Self::Zip)
        } else if start.starts_with(b"GGUF") {
            Some(Self::Gguf)
        } else if start.len() >= 9 && start[0] == 0x80 && (2..=5).contains(&start[1]) && start[8] != b'{' {
            Some(Self::Pickle)
        } else {
            None
        }
    }
}

impl fmt::Display for Impostor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LfsPointer => "a git-lfs pointer",
            Self::Html => "an HTML page",
            Self::Zip => "a zip archive, as PyTorch pickles are",
            Self::Pickle => "a pickle",
            Self::Gguf => "a GGUF model",
        })
    }
}

/// The tensors as the header lists them; their offsets are not checked yet.
fn parse_entries(text: &str) -> Result<Vec<HeaderTensor>, HeaderError> {
    let mut tensors = Vec::new();
    let mut current = None;
    let mut parser = serde_json::Deserializer::from_str(text);
    let parsed = parser
        .deserialize_map(HeaderVisitor { tensors: &mut tensors, current: &mut current })
        .and_then(|()| parser.end());
    match (parsed, current) {
        (Ok(()), _) => Ok(tensors),
        (Err(error), Some(tensor)) => Err(HeaderError::Entry { tensor, detail: error.to_string() }),
        (Err(error), None) => Err(HeaderError::Json { detail: error.to_string() }),
    }
}

struct HeaderVisitor<'a> {
    tensors: &'a mut Vec<HeaderTensor>,
    /// The tensor whose entry is being read, so that an error can name it.
    current: &'a mut Option<String>,
}

impl<'de> Visitor<'de> for HeaderVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if metadata {
                    return Err(de::Error::custom("duplicate `__metadata__`"));
                }
                metadata = true;
                map.next_value::<HeaderMetadata>()?;
                continue;
            }
            if name.is_empty() || name.contains('\0') {
                return Err(de::Error::custom("a tensor name is empty or holds a NUL"));
            }
            *self.current = Some(name);
            let HeaderEntry { dtype, shape, data_offsets: (begin, end) } = map.next_value()?;
            // `current` was set in the line above.
            let name = self.current.take().unwrap_or_default();
            self.tensors.push(HeaderTensor { name, dtype, shape: shape.0, begin, end });
        }
        Ok(())
    }
}

/// `{"dtype": …, "shape": […], "data_offsets": [b, e]}`; other keys are ignored where their value is a plain one.
struct HeaderEntry {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for HeaderEntry {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Field {
            Dtype,
            Shape,
            DataOffsets,
            #[serde(other)]
            Other,
        }

        struct EntryVisitor;

        // Not derived: a derived struct is read from an array as well.
        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = HeaderEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with `dtype`, `shape` and `data_offsets`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderEntry, A::Error> {
                let (mut dtype, mut shape, mut data_offsets) = (None, None, None);
                while let Some(field) = map.next_key()? {
                    let duplicate = match field {
                        Field::Dtype => dtype.replace(map.next_value::<DtypeName>()?.0).map(|_| "dtype"),
                        Field::Shape => shape.replace(map.next_value()?).map(|_| "shape"),
                        Field::DataOffsets => data_offsets.replace(map.next_value()?).map(|_| "data_offsets"),
                        Field::Other => map.next_value_seed(Plain).map(|()| None)?,
                    };
                    if let Some(field) = duplicate {
                        return Err(de::Error::duplicate_field(field));
                    }
                }
                Ok(HeaderEntry {
                    dtype: dtype.ok_or_else(|| de::Error::missing_field("dtype"))?,
                    shape: shape.ok_or_else(|| de::Error::missing_field("shape"))?,
                    data_offsets: data_offsets.ok_or_else(|| de::Error::missing_field("data_offsets"))?,
                })
            }
        }

        deserializer.deserialize_map(EntryVisitor)
    }
}

/// A shape that stops growing at [`MAX_RANK`].
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;

        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a shape: an array of unsigned integers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(dimension) = seq.next_element::<usize>()? {
                    if shape.len() == MAX_RANK {
                        return Err(de::Error::custom(format_args!("the shape has more than {MAX_RANK} dimensions")));
                    }
                    shape.push(dimension);
                }
                Ok(Shape(shape))
            }
        }

        deserializer.deserialize_seq(ShapeVisitor)
    }
}

/// A dtype by its name.
struct DtypeName(Dtype);

impl<'de> Deserialize<'de> for DtypeName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DtypeVisitor;

        impl Visitor<'_> for DtypeVisitor {
            type Value = DtypeName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a dtype name such as `BF16`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<DtypeName, E> {
                Dtype::deserialize(de::value::StrDeserializer::<E>::new(name))
                    .map(DtypeName)
                    .map_err(|_| E::custom(format_args!("unknown dtype {}", shown(name))))
            }
        }

        deserializer.deserialize_str(DtypeVisitor)
    }
}

/// `__metadata__`: text to text, or null; its content is dropped.
struct HeaderMetadata;

impl<'de> Deserialize<'de> for HeaderMetadata {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MetadataVisitor;

        impl<'de> Visitor<'de> for MetadataVisitor {
            type Value = HeaderMetadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`__metadata__` to be an object of strings")
            }

            fn visit_unit<E>(self) -> Result<HeaderMetadata, E> {
                Ok(HeaderMetadata)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderMetadata, A::Error> {
                while map.next_key::<IgnoredAny>()?.is_some() {
                    map.next_value_seed(Text)?;
                }
                Ok(HeaderMetadata)
            }
        }

        deserializer.deserialize_any(MetadataVisitor)
    }
}

/// A string that is checked and dropped.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Text {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string in `__metadata__`")
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// A value that is ignored, and that cannot nest.
struct Plain;

impl<'de> DeserializeSeed<'de> for Plain {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Plain {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value for an unknown key")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// One tensor's offsets against its shape.
fn check_size(tensor: &HeaderTensor) -> Result<(), HeaderError> {
    let HeaderTensor { name, dtype, shape, begin, end } = tensor;
    if end < begin {
        return Err(HeaderError::Reversed { tensor: name.clone(), begin: *begin, end: *end });
    }
    let bits = shape.iter().try_fold(1u64, |product, &dimension| product.checked_mul(dimension as u64));
    let Some(bits) = bits.and_then(|elements| elements.checked_mul(dtype.bitsize() as u64)) else {
        return Err(HeaderError::Overflow { tensor: name.clone() });
    };
    if bits % 8 != 0 {
        return Err(HeaderError::SubByte { tensor: name.clone(), dtype: *dtype });
    }
    let (expected, found) = (bits / 8, end - begin);
    if expected != found {
        let (tensor, shape) = (name.clone(), shape.clone());
        return Err(HeaderError::SizeMismatch { tensor, dtype: *dtype, shape, expected, found });
    }
    Ok(())
}

/// The bytes that the sorted tensors cover, without hole or overlap.
fn check_cover(tensors: &[HeaderTensor]) -> Result<u64, HeaderError> {
    let mut covered = 0;
    let mut last: Option<&HeaderTensor> = None;
    for tensor in tensors {
        match tensor.begin.cmp(&covered) {
            Ordering::Less => {
                let other = last.map(|last| last.name.clone()).unwrap_or_default();
                return Err(HeaderError::Overlap { tensor: tensor.name.clone(), other });
            }
            Ordering::Greater => {
                return Err(HeaderError::Hole { tensor: tensor.name.clone(), bytes: tensor.begin - covered });
            }
            Ordering::Equal => covered = tensor.end,
        }
        last = Some(tensor);
    }
    Ok(covered)
}

#[cfg(test)]
mod tests;

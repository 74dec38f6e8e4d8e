use std::fmt::Write as _;
use std::fs;

use proptest::prelude::*;
use safetensors::SafeTensors;

use super::*;

/// The refusal of this JSON before `data` bytes of data, which must be one.
fn refusal(json: &str, data: u64) -> String {
    Header::parse(json.as_bytes(), 8 + json.len() as u64 + data).unwrap_err().to_string()
}

fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

fn refused_entry(dtype: &str, shape: &str, offsets: &str, data: u64) -> String {
    refusal(&format!("{{{}}}", entry("w", dtype, shape, offsets)), data)
}

/// A whole file through [`Header::read`].
fn read(bytes: &[u8]) -> Result<Header, HeaderError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    fs::write(&path, bytes).unwrap();
    Header::read(&SourceFile::open(&path).unwrap(), LEAST_GUESS).map(|(header, _)| header)
}

fn file(json: &str, data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data].concat()
}

#[test]
fn tensors_come_in_order_of_offset_then_name() {
    let json = format!(
        " {{{}}} ",
        [
            entry("b", "F32", "[]", "[6,10]"),
            entry("z", "BF16", "[0,7]", "[6,6]"),
            entry("y", "BF16", "[7,0]", "[6,6]"),
            entry("a", "BF16", "[1,3]", "[0,6]"),
            r#""__metadata__":{"format":"pt"}"#.into(),
            entry("f4", "F4", "[2,4]", "[10,14]")
                .replace("\"dtype\"", "\"note\":\"x\",\"n\":null,\"m\":-1.5,\"dtype\""),
        ]
        .join(",")
    );
    let header = Header::parse(json.as_bytes(), 8 + json.len() as u64 + 14).unwrap();
    let names: Vec<_> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["a", "y", "z", "b", "f4"]);
    assert_eq!(header.data_start, 8 + json.len() as u64);
    assert_eq!(header.tensors[3].shape, [] as [usize; 0]);
    for metadata in ["{}", "null", r#"{"a":"b","c":"é"}"#] {
        Header::parse(format!("{{\"__metadata__\":{metadata}}}").as_bytes(), metadata.len() as u64 + 25).unwrap();
    }
}

#[test]
fn entries_are_refused_by_name() {
    for (dtype, shape, offsets, data, message) in [
        ("F3", "[4]", "[0,8]", 8, "tensor `w`: invalid header entry: unknown dtype `F3` at line 1 column 18"),
        ("bf16", "[4]", "[0,8]", 8, "unknown dtype `bf16`"),
        ("BF16", "[-4]", "[0,8]", 8, "integer `-4`"),
        ("BF16", "[4.0]", "[0,8]", 8, "floating point `4.0`"),
        ("BF16", "[18446744073709551616]", "[0,0]", 0, "invalid header entry"),
        ("BF16", "4", "[0,8]", 8, "expected a shape"),
        ("BF16", "[4]", "[-8,0]", 0, "integer `-8`"),
        ("BF16", "[4]", "[0,8.0]", 8, "floating point `8.0`"),
        ("BF16", "[4]", "[8]", 8, "invalid length 1"),
        ("BF16", "[4]", "[0,8,9]", 8, "tensor `w`: invalid header entry"),
        ("BF16", "[4]", "[8,0]", 8, "tensor `w`: its offsets are reversed: 8 to 0"),
        ("BF16", "[5]", "[0,8]", 8, "size mismatch: shape [5] of BF16 takes 10 bytes, its offsets 8"),
        ("BF16", "[4294967296,4294967296]", "[0,0]", 0, "tensor `w`: the size of its shape overflows"),
        ("F64", "[2305843009213693952]", "[0,0]", 0, "tensor `w`: the size of its shape overflows"),
        ("F4", "[3]", "[0,2]", 2, "tensor `w`: its F4 elements end inside a byte"),
        ("U8", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,1]", 1, "more than 16 dimensions"),
        ("BF16", "[4]", "[8,16]", 16, "tensor `w`: a hole of 8 bytes lies before its offset"),
        ("BF16", "[4]", "[0,8]", 9, "the file goes on for 1 byte after its last tensor"),
        ("BF16", "[4]", "[0,8]", 7, "the file is truncated"),
    ] {
        let found = refused_entry(dtype, shape, offsets, data);
        assert!(found.contains(message), "{shape} {offsets}: {found}");
    }
}

#[test]
fn malformed_headers_are_refused() {
    let w = entry("w", "U8", "[4]", "[0,4]");
    for (json, message) in [
        (format!("{{{w},{w}}}"), "duplicate tensor `w`"),
        (format!("{{{w},{}}}", w.replace("\"w\"", "\"\\u0077\"")), "duplicate tensor `w`"),
        (
            format!("{{{w},{}}}", entry("v", "U8", "[4]", "[0,4]")),
            "tensor `w`: its byte range overlaps that of tensor `v`",
        ),
        (format!("{{{w},{}}}", entry("v", "U8", "[0]", "[2,2]")), "overlaps"),
        (format!("{{\"__metadata__\":{{}},\"__metadata__\":{{}},{w}}}"), "duplicate `__metadata__`"),
        (format!("{{\"__metadata__\":{{\"epoch\":3}},{w}}}"), "expected a string in `__metadata__`"),
        (format!("{{\"__metadata__\":[],{w}}}"), "`__metadata__` to be an object of strings"),
        (format!("{{{w}}}xyz"), "trailing characters"),
        (format!("{{{w}}}\0\0"), "trailing characters"),
        (w.replace("\"w\":", ""), "tensor `dtype`: invalid header entry: invalid type: string"),
        ("[]".into(), "expected an object of tensors"),
        ("null".into(), "expected an object of tensors"),
        ("{this is not json}".into(), "key must be a string"),
        (String::new(), "EOF"),
        (r#"{"w":["U8",[4],[0,4]]}"#.into(), "tensor `w`: invalid header entry: invalid type: sequence"),
        (format!(r#"{{"w":{{"x":{}"#, "{\"a\":".repeat(50_000)), "expected a plain value for an unknown key"),
        (r#"{"w":{"dtype":7,"shape":[0],"data_offsets":[0,0]}}"#.into(), "expected a dtype name"),
        (r#"{"w":{"dtype":"U8","data_offsets":[0,0]}}"#.into(), "missing field `shape`"),
        (r#"{"w":{"dtype":"U8","shape":[4]}}"#.into(), "missing field `data_offsets`"),
        (r#"{"w":{"dtype":"U8","shape":[4],"shape":[4]}}"#.into(), "duplicate field `shape`"),
        (format!("{{{}}}", entry("", "U8", "[4]", "[0,4]")), "a tensor name is empty"),
        (format!("{{{}}}", entry("a\\u0000", "U8", "[4]", "[0,4]")), "or holds a NUL"),
        (format!("{{{}}}", entry("\\ud800", "U8", "[4]", "[0,4]")), "the header is no valid JSON header"),
        (format!("{{\"__metadata__\":{}", "[".repeat(100_000)), "`__metadata__` to be an object of strings"),
    ] {
        let found = refusal(&json, 4);
        assert!(found.contains(message), "{}: {found}", &json[..json.len().min(100)]);
        assert!(found.len() < 1000);
    }
    assert!(matches!(Header::parse(b"{\"\xff\":1}", 20), Err(HeaderError::NotUtf8 { at: 2 })));
}

#[test]
fn offsets_near_the_end_of_the_numbers_do_not_wrap() {
    let step = (1u64 << 61) - 1;
    let mut json = String::from("{");
    for i in 0..8 {
        let _ = write!(
            json,
            "{},",
            entry(&format!("w{i}"), "U8", &format!("[{step}]"), &format!("[{},{}]", i * step, (i + 1) * step))
        );
    }
    json += &entry("w8", "U8", "[7]", &format!("[{},{}]", 8 * step, u64::MAX));
    json += "}";
    assert!(refusal(&json, 0).contains("the file is truncated: its tensors end at byte 184467440737095"));
}

#[test]
fn a_header_of_one_endless_shape_is_refused_at_once() {
    let json = format!("{{{}}}", entry("w", "U8", &format!("[1{}]", ",1".repeat(5_000_000)), "[0,1]"));
    assert!(refusal(&json, 1).contains("tensor `w`: invalid header entry: the shape has more than 16 dimensions"));
}

#[test]
fn files_are_read_and_those_of_other_kinds_recognised() {
    let w = format!("{{{}}}", entry("w", "U8", "[4]", "[0,4]"));
    assert_eq!(read(&file(&w, b"1234")).unwrap().tensors.len(), 1);
    for (bytes, message) in [
        (Vec::new(), "the file has 0 bytes: too short for a safetensors header"),
        (vec![16, 0, 0, 0, 0, 0, 0], "the file has 7 bytes: too short"),
        (file("", b""), "EOF"),
        (
            1000u64.to_le_bytes().to_vec(),
            "the file is truncated: its header has 1.00 kB (1,000 bytes), the file only 8 bytes",
        ),
        (100_000_001u64.to_le_bytes().to_vec(), "the header is too large: 100.00 MB"),
        (u64::MAX.to_le_bytes().to_vec(), "the header is too large"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "a git-lfs pointer"),
        (b"\n<!DOCTYPE html><html>".to_vec(), "an HTML page"),
        (b"PK\x03\x04\0\0\0\0\0\0\0\0".to_vec(), "a zip archive"),
        (b"\x80\x02cos\nsystem\nq\0.".to_vec(), "a pickle"),
        (b"GGUF\x03\0\0\0\0".to_vec(), "a GGUF model"),
        (file(&w, b"123"), "the file is truncated"),
    ] {
        let found = read(&bytes).unwrap_err().to_string();
        assert!(found.contains(message), "{found}");
    }
}

fn tensors() -> impl Strategy<Value = Vec<(String, &'static str, Vec<usize>)>> {
    let dtype = prop::sample::select(vec!["BF16", "F32", "F4", "F6_E2M3", "F8_E4M3", "I64", "BOOL", "C64", "F3"]);
    let shape = prop::collection::vec(prop::sample::select(vec![0usize, 1, 2, 3, 4, 7, 1 << 33]), 0..4);
    prop::collection::vec(("[a-c.é\\\\\"]{1,2}", dtype, shape), 0..5)
}

/// A header that is often right and often wrong in one of the places that matter.
fn header_text() -> impl Strategy<Value = (String, usize)> {
    (tensors(), prop::sample::select(vec![0i64, 0, 0, 0, 1, -1]), 0usize..6, any::<bool>()).prop_map(
        |(tensors, shift, shifted, reversed)| {
            let (mut offset, mut entries) = (0i64, Vec::new());
            for (i, (name, dtype, shape)) in tensors.iter().enumerate() {
                let bits = match *dtype {
                    "F4" => 4,
                    "F6_E2M3" => 6,
                    "F8_E4M3" | "BOOL" => 8,
                    "BF16" => 16,
                    "F32" => 32,
                    _ => 64,
                };
                let elements = shape.iter().fold(1i64, |product, &d| product.saturating_mul(d as i64)).min(64);
                let begin = offset + if i == shifted { shift } else { 0 };
                offset = begin + elements * bits / 8;
                let name = serde_json::to_string(name).unwrap();
                entries.push(format!(
                    r#"{name}:{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{offset}]}}"#
                ));
            }
            if reversed {
                entries.reverse();
            }
            (format!("{{{}}}", entries.join(",")), offset.max(0) as usize)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// We accept what the crate accepts, unless a name is there twice: of those it drops all but the last.
    #[test]
    fn the_reader_agrees_with_the_safetensors_crate((json, data) in header_text()) {
        let bytes = file(&json, &vec![0; data]);
        let theirs = SafeTensors::deserialize(&bytes);
        match (Header::parse(json.as_bytes(), bytes.len() as u64), theirs) {
            (Ok(ours), Ok(theirs)) => {
                prop_assert_eq!(ours.tensors.len(), theirs.len());
                for tensor in &ours.tensors {
                    let view = theirs.tensor(&tensor.name).unwrap();
                    prop_assert_eq!(view.dtype(), tensor.dtype);
                    prop_assert_eq!(view.shape(), &tensor.shape[..]);
                    prop_assert_eq!(view.data().len() as u64, tensor.end - tensor.begin);
                }
            }
            (Err(_), Err(_)) => {}
            (Err(error), Ok(theirs)) => {
                prop_assert!(json.matches("\"dtype\"").count() > theirs.len(), "{json}: {error}");
            }
            (Ok(_), Err(error)) => prop_assert!(false, "{json}: they say {error}"),
        }
    }

    /// Nothing panics, whatever the bytes.
    #[test]
    fn arbitrary_bytes_do_not_panic(json in prop::collection::vec(any::<u8>(), 0..200), size in any::<u64>()) {
        let _ = Header::parse(&json, size);
    }
}

#[test]
fn sizes_that_differ_look_different() {
    let said = HeaderError::TooLarge { length: MAX_HEADER + 1 }.to_string();
    let expected = "the header is too large: 100.00 MB (100,000,001 bytes), the limit is 100.00 MB (100,000,000 bytes)";
    assert_eq!(said, expected);
    assert!(
        HeaderError::TooLarge { length: 2 * MAX_HEADER }.to_string().ends_with("200.00 MB, the limit is 100.00 MB")
    );
}

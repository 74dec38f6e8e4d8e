//! What `scale_search: mse` gains, and what it costs: `cargo run --release -p qwen-fp8-schemes --example search_quality`.

use std::time::Instant;

use half::bf16;
use qwen_fp8_schemes::conformance::quantize_whole;
use qwen_fp8_schemes::{Format, Make, Matrix, Simd, SourceDtype, find};
use serde_json::json;

const SOURCE: Matrix = Matrix { dtype: SourceDtype::Bf16, rows: 1024, columns: 4096 };

fn main() {
    let simd = Simd::detect();
    println!(
        "{:32} {:10} {:>12} {:>12} {:>12} {:>14}",
        "SQNR in dB", "scale per", "absmax", "mse", "gain", "time, mse"
    );
    let contents: [(&str, Content); 3] = [
        ("normal", |normal, _| normal),
        ("normal, 1 in 1000 ten times", |normal, index| if index % 1000 == 17 { 10.0 * normal } else { normal }),
        ("heavy tails (normal cubed)", |normal, _| normal.powi(3)),
    ];
    for (name, content) in contents {
        let values = weights(content);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        for (grouping, block, scale_dtype) in [("row", [1, SOURCE.columns], "bf16"), ("block 128", [128; 2], "bf16")] {
            let mut row = Vec::new();
            for search in ["absmax", "mse"] {
                let Some(Make::Quantize(make)) = find("FP8_BLOCK").map(|registration| &registration.make) else {
                    panic!("the scheme is registered")
                };
                let options = json!({ "block_size": block, "scale_dtype": scale_dtype, "scale_search": search });
                let scheme = make(options, Format::CompressedTensors).expect("the options are right");
                let start = Instant::now();
                let made = quantize_whole(&*scheme, SOURCE, &bytes, 1, simd, 0).expect("the weights are finite");
                row.push((sqnr(&values, &made, block), start.elapsed()));
            }
            let (absmax, mse) = (row[0].0, row[1].0);
            let speed = bytes.len() as f64 / row[1].1.as_secs_f64() / 1e6;
            println!("{name:32} {grouping:10} {absmax:12.2} {mse:12.2} {:12.2} {speed:9.0} MB/s", mse - absmax);
        }
    }
}

/// Makes a weight of a normal number and its index.
type Content = fn(f32, u64) -> f32;

fn weights(content: Content) -> Vec<bf16> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..(SOURCE.rows * SOURCE.columns) as u64)
        .map(|index| {
            let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
            let normal = radius * (std::f32::consts::TAU * uniform()).cos();
            bf16::from_f32(0.02 * content(normal, index))
        })
        .collect()
}

/// Signal over the noise of the decoded weights.
fn sqnr(values: &[bf16], made: &[Vec<u8>], [height, width]: [usize; 2]) -> f64 {
    let (mut signal, mut noise) = (0.0, 0.0);
    for (index, (value, &code)) in values.iter().zip(&made[0]).enumerate() {
        let (row, column) = (index / SOURCE.columns, index % SOURCE.columns);
        let group = row / height * SOURCE.columns.div_ceil(width) + column / width;
        let scale = bf16::from_le_bytes([made[1][2 * group], made[1][2 * group + 1]]).to_f64();
        let decoded = float8::F8E4M3::from_bits(code).to_f64() * scale;
        signal += value.to_f64().powi(2);
        noise += (value.to_f64() - decoded).powi(2);
    }
    10.0 * (signal / noise).log10()
}

//! GPUs by the words of `nvidia-smi`.

use qwen_fp8::doctor::{FoundGpu, GpuFacts, ProgramAnswer};

use super::{advised, read};

fn lines(said: &str) -> Vec<String> {
    let lines = GpuFacts::of(&ProgramAnswer::Said(said.to_owned())).lines(None, "RECIPE");
    advised(&lines);
    read(&lines)
}

#[test]
fn gpus_are_named_with_their_memory_and_generation() {
    assert_eq!(
        lines("NVIDIA GeForce RTX 4080, 16376 MiB, 580.65.06, 8.9\n"),
        ["ok gpu: NVIDIA GeForce RTX 4080, 15.99 GiB, compute capability 8.9 (Ada), driver 580.65.06"]
    );
    let h200 = "NVIDIA H200, 143771 MiB, 590.1, 9.0\n".repeat(8);
    assert!(lines(&h200)[0].starts_with("ok gpu: 8 × NVIDIA H200, "), "{h200}");
    for (capability, generation) in [("7.5", "Turing"), ("8.7", "Ampere"), ("10.3", "Blackwell"), ("12.1", "Blackwell")]
    {
        let said = lines(&format!("X, 8192 MiB, 580.1, {capability}"));
        assert!(said[0].contains(&format!("{capability} ({generation})")), "{said:?}");
    }
    assert!(lines("Tesla P100, 16384 MiB, 580.1, 6.0")[0].starts_with("note gpu: Tesla P100"));
    // A name with commas and escapes, and an unknown capability.
    let odd = FoundGpu::parse("A, B\u{1b}[31m, 1024 MiB, 1.2, [N/A]").unwrap();
    assert_eq!((odd.name.as_str(), odd.capability), ("A, B\u{1b}[31m", None));
    assert!(!lines("A, B\u{1b}[31m, 1024 MiB, 1.2, [N/A]").concat().contains('\u{1b}'));
}

#[test]
fn an_old_driver_is_a_note() {
    let said = lines("NVIDIA L4, 23034 MiB, 550.54.14, 8.9");
    assert_eq!(said[1], "note driver: driver 550.54.14: vLLM 0.33 is built with CUDA 13, which needs 580 or later");
}

#[test]
fn no_gpu_is_a_note() {
    let failed = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\nMake sure …\n";
    for (facts, words) in [
        (GpuFacts::None, "there is no `nvidia-smi`"),
        (GpuFacts::of(&ProgramAnswer::Failed(failed.to_owned())), "NVIDIA-SMI has failed because"),
        (GpuFacts::of(&ProgramAnswer::Said(String::new())), "it says nothing"),
        (GpuFacts::of(&ProgramAnswer::Said("No devices were found\n".to_owned())), "No devices were found"),
        (GpuFacts::of(&ProgramAnswer::TooLate), "no answer within 20 s"),
        (GpuFacts::of(&ProgramAnswer::NotStarted("exec format error".to_owned())), "exec format error"),
    ] {
        let lines = facts.lines(None, "RECIPE");
        advised(&lines);
        let said = read(&lines);
        assert!(said.len() == 1 && said[0].starts_with("note gpu: ") && said[0].contains(words), "{said:?}");
    }
}

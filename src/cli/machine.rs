//! The machine that the program runs on, as Linux describes it.

use std::fs;
use std::path::Path;

use qwen_fp8_schemes::Simd;

use crate::doctor::MachineFacts;
use crate::report::Machine;

/// Describes this machine. What the system does not tell stays empty.
pub(super) fn this() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processor = field(&read("/proc/cpuinfo"), "model name", ':').unwrap_or_default();
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let facts = MachineFacts::read(Path::new("/"), Simd::detect().name(), threads);
    let system = field(&read("/etc/os-release"), "PRETTY_NAME", '=');
    Machine {
        processor: if processor.is_empty() { std::env::consts::ARCH.to_owned() } else { processor },
        threads,
        memory: facts.memory.map(|memory| memory.total),
        system: system.map_or_else(|| std::env::consts::OS.to_owned(), |name| name.trim_matches('"').to_owned()),
        kernel: facts.kernel.unwrap_or_default(),
    }
}

/// Returns the first value under a key.
fn field(text: &str, key: &str, separator: char) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(separator));
    pairs.find(|(found, _)| found.trim() == key).map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_key() {
        let text = "processor\t: 0\nmodel name\t: Some CPU: fast\nmodel name\t: other\n";
        assert_eq!(field(text, "model name", ':').as_deref(), Some("Some CPU: fast"));
        assert_eq!(field(text, "vendor", ':'), None);
    }
}

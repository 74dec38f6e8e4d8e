//! Instruction sets: the caller chooses one, and the proof that the machine has it is made here.

use std::fmt;

/// An instruction set that this machine has: a value of this type is the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(InstructionSet);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Simd {
    /// The path that every machine has: scalar code for the target's baseline, which LLVM vectorizes for SSE2 on x86-64 and
    /// for NEON on aarch64.
    pub const PORTABLE: Self = Self(InstructionSet::Portable);

    /// All that this machine has, the fastest first.
    pub fn available() -> Vec<Self> {
        let mut slowest_first = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                slowest_first.push(Self(InstructionSet::Avx2));
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vbmi")
                && is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
            {
                slowest_first.push(Self(InstructionSet::Avx512));
            }
        }
        #[cfg(target_arch = "aarch64")]
        slowest_first.push(Self(InstructionSet::Neon));
        slowest_first.reverse();
        slowest_first
    }

    /// The fastest that this machine has.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// The names of all instruction sets that there are, whatever the machine and the build.
    pub const NAMES: [&'static str; 4] = ["portable", "avx2", "avx512", "neon"];

    /// One of [`Simd::NAMES`].
    pub fn name(self) -> &'static str {
        match self.0 {
            InstructionSet::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => "neon",
        }
    }

    pub(crate) fn level(self) -> InstructionSet {
        self.0
    }

    /// Does `work` with this instruction set.
    pub(crate) fn run<W: Vectorized>(self, work: W) -> W::Output {
        match self.0 {
            InstructionSet::Portable => work.run(Self(InstructionSet::Portable)),
            // SAFETY: only `available` makes this value, after it found all that `run_avx2` enables.
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => unsafe { run_avx2(work) },
            // SAFETY: only `available` makes this value, after it found all that `run_avx512` enables.
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => unsafe { run_avx512(work) },
            // NEON is in the baseline of the target.
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => work.run(Self(InstructionSet::Neon)),
        }
    }
}

/// Work that is compiled once per instruction set; [`Simd::run`] picks.
pub(crate) trait Vectorized {
    type Output;

    /// Must be `#[inline(always)]`, and so must all that is hot in it: only then the instruction set applies. `simd` is
    /// that instruction set, and a constant once this is inlined.
    fn run(self, simd: Simd) -> Self::Output;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<W: Vectorized>(work: W) -> W::Output {
    work.run(Simd(InstructionSet::Avx2))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx2,fma")]
fn run_avx512<W: Vectorized>(work: W) -> W::Output {
    work.run(Simd(InstructionSet::Avx512))
}

/// Brings into the cache the memory that lies `bytes` after `value` and is as large; it need not belong to the program.
#[inline(always)]
pub(crate) fn prefetch_after<T>(value: &T, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..size_of::<T>()).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let pointer = std::ptr::from_ref(value).cast::<i8>().wrapping_add(bytes + line);
        // SAFETY: SSE is in the baseline of the target, and a prefetch reads nothing that the program sees.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(pointer) };
    }
    // Elsewhere there is no stable way to ask.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, bytes);
}

impl fmt::Display for Simd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

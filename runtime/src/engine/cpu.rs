//! The processor's name, for people and for timings.

/// What the processor calls itself (x86-64), else the kind of processor, `aarch64`.
pub fn cpu_name() -> String {
    let name = brand();
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.is_empty() { std::env::consts::ARCH.into() } else { name }
}

/// The brand string: 48 bytes of text, padded with zeros or spaces, in CPUID leaves 0x8000_0002 to 0x8000_0004.
#[cfg(target_arch = "x86_64")]
fn brand() -> String {
    use std::arch::x86_64::__cpuid;
    const FIRST: u32 = 0x8000_0002;
    const LAST: u32 = 0x8000_0004;
    if __cpuid(0x8000_0000).eax < LAST {
        return String::new();
    }
    let leaves = (FIRST..=LAST).map(__cpuid);
    let bytes: Vec<u8> =
        leaves.flat_map(|leaf| [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]).flat_map(u32::to_le_bytes).collect();
    // A hypervisor may put anything there: what is printed stays printable.
    String::from_utf8_lossy(&bytes).chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn brand() -> String {
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel reads the same leaves.
    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn the_name_is_the_one_that_the_system_tells() {
        let told = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let told = told.lines().find_map(|line| line.strip_prefix("model name")).unwrap();
        let told = told.trim_start_matches(['\t', ' ', ':']).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(cpu_name(), told);
    }

    #[test]
    fn there_is_a_name_in_one_printable_line() {
        let name = cpu_name();
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{name:?}");
    }
}

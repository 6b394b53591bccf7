//! What machine a figure comes from. Everything is read from files any user can read; what cannot be
//! read says so.

use std::fs;

use serde::Serialize;

use crate::clock::{Calibration, unix_ms};

/// The machine and the program, as a report shows them.
#[derive(Clone, Debug, Serialize)]
pub struct Fingerprint {
    /// Unix time of the report in milliseconds.
    pub unix_ms: u64,
    /// `tercel-bench` and its version.
    pub tool: String,
    /// The exact command line.
    pub command_line: String,
    /// Model of the processor.
    pub cpu: String,
    /// Processors in use by the system.
    pub cpus: usize,
    /// Whether this is a virtual machine, and whose.
    pub virtualised: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Kernel release and version.
    pub kernel: String,
    /// Parameters of the kernel's command line that bear on latency.
    pub kernel_command_line: String,
    /// Frequency governors in use.
    pub governor: String,
    /// Processors kept free of other work (`isolcpus`).
    pub isolated: String,
    /// Processors without a timer tick (`nohz_full`).
    pub nohz_full: String,
    /// The kernel's clock source.
    pub clock_source: String,
    /// Transparent huge pages.
    pub huge_pages: String,
    /// Load average at the start.
    pub load_average: String,
    /// The client's clock.
    pub calibration: Calibration,
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn or_none(text: Option<String>) -> String {
    text.filter(|text| text != "(null)").unwrap_or_else(|| "none".to_owned())
}

fn unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "not readable".to_owned())
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// The rest of a kernel's command line says things about a machine that are nobody's business.
fn latency_parameters(command_line: &str) -> String {
    const NAMES: [&str; 20] = [
        "isolcpus",
        "nohz",
        "nohz_full",
        "rcu_nocbs",
        "rcu_nocb_poll",
        "mitigations",
        "idle",
        "intel_idle.max_cstate",
        "processor.max_cstate",
        "intel_pstate",
        "amd_pstate",
        "transparent_hugepage",
        "hugepages",
        "default_hugepagesz",
        "tsc",
        "clocksource",
        "preempt",
        "irqaffinity",
        "skew_tick",
        "nosmt",
    ];
    let bears = |word: &&str| NAMES.contains(&word.split('=').next().unwrap_or_default());
    command_line.split_whitespace().filter(bears).collect::<Vec<_>>().join(" ")
}

/// A command line as a shell would take it.
#[must_use]
pub fn quoted(words: impl IntoIterator<Item = String>) -> String {
    let plain =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+{}".contains(c));
    let words: Vec<String> = words
        .into_iter()
        .map(|word| if plain(&word) { word } else { format!("'{}'", word.replace('\'', "'\\''")) })
        .collect();
    words.join(" ")
}

impl Fingerprint {
    /// Looks at this machine.
    #[must_use]
    pub fn take(calibration: Calibration) -> Self {
        let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
        let hypervisor = cpuinfo.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
        let product = read("/sys/class/dmi/id/sys_vendor").or_else(|| read("/sys/class/dmi/id/product_name"));
        let mut governors: Vec<String> = (0..4096)
            .map_while(|cpu| {
                fs::metadata(format!("/sys/devices/system/cpu/cpu{cpu}")).ok()?;
                Some(read(&format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")))
            })
            .flatten()
            .collect();
        governors.sort();
        governors.dedup();
        let uname = rustix::system::uname();
        let memory = read("/proc/meminfo").and_then(|text| field(&text, "MemTotal"));
        let memory_kib: u64 = memory.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        Fingerprint {
            unix_ms: unix_ms(),
            tool: format!("tercel-bench {}", env!("CARGO_PKG_VERSION")),
            command_line: quoted(std::env::args()),
            cpu: unknown(field(&cpuinfo, "model name").or_else(|| field(&cpuinfo, "CPU part"))),
            cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            virtualised: if hypervisor { format!("yes ({})", unknown(product)) } else { "no sign of it".to_owned() },
            memory_bytes: memory_kib * 1024,
            kernel: format!("{} {}", uname.release().to_string_lossy(), uname.version().to_string_lossy()),
            kernel_command_line: or_none(
                read("/proc/cmdline").map(|text| latency_parameters(&text)).filter(|text| !text.is_empty()),
            ),
            governor: if governors.is_empty() {
                "none (no frequency scaling seen)".to_owned()
            } else {
                governors.join(", ")
            },
            isolated: or_none(read("/sys/devices/system/cpu/isolated")),
            nohz_full: or_none(read("/sys/devices/system/cpu/nohz_full")),
            clock_source: unknown(read("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
            huge_pages: unknown(read("/sys/kernel/mm/transparent_hugepage/enabled")),
            load_average: unknown(read("/proc/loadavg")),
            calibration,
        }
    }

    /// What a reader looks at, as names and texts.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let gib = self.memory_bytes as f64 / (1u64 << 30) as f64;
        vec![
            ("command", self.command_line.clone()),
            ("tool", self.tool.clone()),
            ("processor", format!("{}, {} in use", self.cpu, self.cpus)),
            ("virtual machine", self.virtualised.clone()),
            ("memory", format!("{gib:.1} GiB, transparent huge pages {}", self.huge_pages)),
            ("kernel", self.kernel.clone()),
            ("kernel parameters", self.kernel_command_line.clone()),
            ("governor", self.governor.clone()),
            ("isolated cores", format!("isolcpus {}, nohz_full {}", self.isolated, self.nohz_full)),
            ("clock source", self.clock_source.clone()),
            (
                "client's clock",
                format!(
                    "off by {:.1} ppm over {} ms, {:.0} ns a reading",
                    self.calibration.drift_ppm, self.calibration.span_ms, self.calibration.read_ns
                ),
            ),
            ("load average", self.load_average.clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_pasted() {
        assert_eq!(quoted(["a b", "c", "it's", ""].map(str::to_owned)), r"'a b' c 'it'\''s' ''");
    }

    #[test]
    fn only_parameters_that_matter_are_shown() {
        assert_eq!(
            latency_parameters("root=/dev/sda1 isolcpus=2,3 secret=1 mitigations=off nosmt"),
            "isolcpus=2,3 mitigations=off nosmt"
        );
    }

    #[test]
    fn something_is_found() {
        let found = Fingerprint::take(Calibration { drift_ppm: 0.0, read_ns: 1.0, span_ms: 1 });
        assert!(found.cpus > 0 && !found.kernel.is_empty() && found.rows().len() > 8);
    }
}

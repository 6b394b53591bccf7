//! What on this host will cost tail latency, in plain lines, and how to mend it. Reads /sys and
//! /proc; never fails, and what cannot be read is passed over.

use std::fs;

use tercel_core::settings::Settings;

/// One thing that costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is so.
    pub what: String,
    /// How to mend it.
    pub mend: String,
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The word in brackets, as sysfs marks a choice.
fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

/// Reads a list of processors: `0-3,8`.
#[must_use]
pub fn parse_cpu_list(text: &str) -> Vec<usize> {
    text.split(',')
        .filter_map(|part| {
            let (low, high) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
            let low: usize = low.parse().ok()?;
            // A stride (`0-8:2`) is no range this server makes use of; its first part will do.
            let high: usize = high.split(':').next()?.parse().ok()?;
            (low <= high && high - low < 4096).then_some(low..=high)
        })
        .flatten()
        .collect()
}

/// The cores that share a memory node with `core`; empty if the machine does not tell.
#[must_use]
pub fn cores_of_node(core: usize) -> Vec<usize> {
    let Ok(dir) = fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}")) else { return Vec::new() };
    let mut names = dir.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let node = names.find(|name| name.strip_prefix("node").is_some_and(|number| number.parse::<usize>().is_ok()));
    node.and_then(|node| read(&format!("/sys/devices/system/node/{node}/cpulist")))
        .map(|list| parse_cpu_list(&list))
        .unwrap_or_default()
}

/// Everything found for an executor on `core` (`None`: not pinned).
#[must_use]
pub fn check(settings: &Settings, core: Option<usize>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |what: String, mend: &str| found.push(Finding { what, mend: mend.to_owned() });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if core.is_none() {
        add(
            "The executor is not pinned to a core: the scheduler may move it.".to_owned(),
            "set cpu-affinity to a core of its own",
        );
    }
    let at = core.unwrap_or(0);
    let cpu = format!("/sys/devices/system/cpu/cpu{at}");
    if let Some(governor) = read(&format!("{cpu}/cpufreq/scaling_governor"))
        && governor != "performance"
    {
        add(format!("The frequency governor of core {at} is '{governor}'."), "cpupower frequency-set -g performance");
    }
    let deep: Vec<String> = (1..10)
        .filter_map(|state| {
            let dir = format!("{cpu}/cpuidle/state{state}");
            let latency_us: u64 = read(&format!("{dir}/latency"))?.parse().ok()?;
            let disabled = read(&format!("{dir}/disable"))? == "1";
            (latency_us > 10 && !disabled)
                .then(|| format!("{} ({latency_us} us)", read(&format!("{dir}/name")).unwrap_or_default()))
        })
        .collect();
    if !deep.is_empty() {
        add(
            format!("Core {at} may enter deep idle states: {}.", deep.join(", ")),
            "cpupower idle-set -D 10, or start with busy-poll-us -1 on a core of its own",
        );
    }
    if let Some(thp) = read("/sys/kernel/mm/transparent_hugepage/enabled") {
        match chosen(&thp) {
            Some("always") if !settings.disable_thp => add(
                "Transparent huge pages are always on: memory that no helper filled ahead may cost a long page fault."
                    .to_owned(),
                "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
            ),
            Some("never") if !settings.disable_thp => add(
                "Transparent huge pages are off: lookups in a large keyspace miss the TLB.".to_owned(),
                "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
            ),
            _ => {}
        }
    }
    if let Some(core) = core {
        let isolated = read("/sys/devices/system/cpu/isolated").map(|text| parse_cpu_list(&text)).unwrap_or_default();
        if !isolated.contains(&core) {
            add(
                format!("Core {core} is not isolated: other tasks may run on it."),
                "boot with isolcpus, nohz_full and rcu_nocbs for it",
            );
        }
        let on_core = interrupts_on(core);
        if on_core > 0 {
            add(
                format!("{on_core} device interrupts may be served on core {core}."),
                "write other cores into /proc/irq/*/smp_affinity_list and stop irqbalance there",
            );
        }
    }
    let locked = crate::process::sys::locked_memory_limit();
    if locked < 64 << 20 {
        add(
            format!("Only {} KiB of memory may be locked: RDMA will not work.", locked / 1024),
            "ulimit -l unlimited, or LimitMEMLOCK=infinity",
        );
    }
    if let Some(nodes) = read("/sys/devices/system/node/online").filter(|nodes| nodes != "0") {
        add(
            format!("The machine has several memory nodes ({nodes})."),
            "run under numactl, on the node of the network card",
        );
    }
    if let Some(steal) = steal_share().filter(|share| *share > 0.005) {
        add(
            format!("The hypervisor took {:.1} % of processor time since boot.", steal * 100.0),
            "ask for dedicated cores",
        );
    }
    if settings.busy_poll_us != 0 && cores < 2 {
        add(
            "The executor spins on the only core there is: clients on this host cannot run meanwhile.".to_owned(),
            "set busy-poll-us 0",
        );
    }
    if let Some(clock) = read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        .filter(|clock| clock != "tsc" && clock != "kvm-clock")
    {
        add(
            format!("The kernel's clock is '{clock}', which is slow to read."),
            "boot with clocksource=tsc tsc=reliable",
        );
    }
    found
}

/// Device interrupts whose affinity includes a core.
fn interrupts_on(core: usize) -> usize {
    let Ok(dir) = fs::read_dir("/proc/irq") else { return 0 };
    dir.flatten()
        .filter(|entry| {
            let path = entry.path();
            let has_device = fs::read_dir(&path)
                .is_ok_and(|mut files| files.any(|file| file.is_ok_and(|file| file.path().is_dir())));
            has_device
                && read(&path.join("effective_affinity_list").to_string_lossy())
                    .is_some_and(|list| parse_cpu_list(&list).contains(&core))
        })
        .count()
}

fn steal_share() -> Option<f64> {
    let stat = read("/proc/stat")?;
    let fields: Vec<f64> =
        stat.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let total: f64 = fields.iter().take(8).sum();
    (total > 0.0).then(|| fields.get(7).copied().unwrap_or(0.0) / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        assert_eq!(parse_cpu_list("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(parse_cpu_list(""), [] as [usize; 0]);
        assert_eq!(parse_cpu_list("x,3"), [3]);
        assert_eq!(chosen("always [madvise] never"), Some("madvise"));
    }

    #[test]
    fn checking_never_fails() {
        let _ = check(&Settings::default(), Some(100_000));
        let _ = check(&Settings::default(), None);
    }
}

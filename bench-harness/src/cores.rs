//! The cores of this host.

use anyhow::ensure;

/// The cores this process may use, upwards.
#[must_use]
pub fn cores() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

/// Whether something can be pinned to a core.
///
/// # Errors
/// It is not there, or not for this process.
pub fn usable(core: usize) -> anyhow::Result<()> {
    let cores = cores();
    // A system that does not tell its cores shows when something is pinned.
    ensure!(
        cores.is_empty() || cores.contains(&core),
        "there is no core {core} for this process; it may use {}",
        cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

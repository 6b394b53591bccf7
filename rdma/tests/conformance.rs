//! The conformance suite over the software provider: faultless, with every harmless fault at once
//! (delays, late reads of what was posted, receivers not ready, completions in bursts), without inline
//! sends, and announcing windows late; of connections accepted and of connections dialled.

#![allow(clippy::unwrap_used)]

mod rig;

use rig::{DialledRig, RdmaRig, Setup, WINDOW_BYTES};
use tercel_rdma::software::{Fabric, Faults, SoftDevice, SoftLimits};

const PLAIN: Setup = Setup { announce_early: true, inline_bytes: 256, window_bytes: WINDOW_BYTES };
const FAULTLESS: Faults = Faults {
    delay_steps_max: 0,
    burst_steps_max: 0,
    late_per_million: 0,
    not_ready_per_million: 0,
    fail_per_million: 0,
    disconnect_per_million: 0,
    disconnect_at: None,
};
const ROUGH: Faults = Faults {
    delay_steps_max: 5,
    burst_steps_max: 7,
    late_per_million: 300_000,
    not_ready_per_million: 200_000,
    ..FAULTLESS
};

fn devices(faults: Faults, setup: Setup) -> [SoftDevice; 2] {
    let fabric = Fabric::new(0x7e5ce1, faults);
    let limits = SoftLimits { inline_bytes_max: setup.inline_bytes, ..SoftLimits::default() };
    [fabric.device(limits).unwrap(), fabric.device(limits).unwrap()]
}

fn rig(faults: Faults, setup: Setup) -> RdmaRig<SoftDevice> {
    let [server, client] = devices(faults, setup);
    RdmaRig::new(server, client, "127.0.0.1:0".parse().unwrap(), setup)
}

fn dialled(faults: Faults, setup: Setup) -> DialledRig<SoftDevice> {
    let [near, far] = devices(faults, setup);
    DialledRig::new(near, far, "127.0.0.1:0".parse().unwrap(), setup)
}

tercel_transport::conformance_suite!(plain, rig(FAULTLESS, PLAIN));
tercel_transport::conformance_suite!(rough, rig(ROUGH, PLAIN));
tercel_transport::conformance_suite!(without_inline, rig(FAULTLESS, Setup { inline_bytes: 0, ..PLAIN }));
tercel_transport::conformance_suite!(announcing_late, rig(FAULTLESS, Setup { announce_early: false, ..PLAIN }));
tercel_transport::conformance_suite!(small_windows, rig(ROUGH, Setup { window_bytes: 1999, ..PLAIN }));

tercel_transport::conformance_suite!(dialled_plain, dialled(FAULTLESS, PLAIN));
tercel_transport::conformance_suite!(dialled_rough, dialled(ROUGH, PLAIN));
tercel_transport::conformance_suite!(dialled_small_windows, dialled(ROUGH, Setup { window_bytes: 1999, ..PLAIN }));

tercel_transport::conformance_dials!(dials_plain, rig(FAULTLESS, PLAIN));
tercel_transport::conformance_dials!(dials_rough, rig(ROUGH, PLAIN));
tercel_transport::conformance_dials!(dials_announcing_late, rig(FAULTLESS, Setup { announce_early: false, ..PLAIN }));
tercel_transport::conformance_dials!(dials_small_windows, rig(ROUGH, Setup { window_bytes: 1999, ..PLAIN }));

//! What this host's adapters can do, by somebody else's bindings: lists the devices with their GIDs, and
//! plays one device's own loopback of send and receive as a floor below everything of ours. For the case
//! that the server's RDMA does not work and the question is whether verbs do.
//!
//!   cargo run --release --manifest-path rdma/diagnostic/Cargo.toml [-- DEVICE [GID-INDEX]]
//!
//! Needs cmake, libclang and libibverbs-dev to build.

use std::io;
use std::process::ExitCode;
use std::time::Instant;

/// Bytes of a message, messages that are not counted, and messages that are.
const MESSAGE_BYTES: usize = 64;
const WARM_UP: usize = 1000;
const MESSAGES: usize = 20_000;

fn list(devices: &ibverbs::DeviceList) -> io::Result<()> {
    for device in devices.iter() {
        let name = device.name().map_or_else(|| "?".into(), |name| name.to_string_lossy().into_owned());
        println!("{name}");
        for gid in device.open()?.gid_table() {
            println!("  {gid:?}");
        }
    }
    Ok(())
}

/// Round trips of one message from a queue pair to itself, in nanoseconds.
fn floor(device: &ibverbs::Device<'_>, gid_index: u32) -> io::Result<Vec<u64>> {
    let context = device.open()?;
    let cq = context.create_cq(64, 0)?;
    let pd = context.alloc_pd()?;
    let prepared = pd.create_qp(&cq, &cq, ibverbs::ibv_qp_type::IBV_QPT_RC).set_gid_index(gid_index).build()?;
    let endpoint = prepared.endpoint();
    let mut qp = prepared.handshake(endpoint)?;
    let mut memory = pd.allocate::<u8>(2 * MESSAGE_BYTES)?;
    let mut completions = [ibverbs::ibv_wc::default(); 16];
    let mut took_ns = Vec::with_capacity(MESSAGES);
    for message in 0..WARM_UP + MESSAGES {
        let start = Instant::now();
        // SAFETY: the halves of the region are not touched until both requests have completed below.
        unsafe {
            qp.post_receive(&mut memory, ..MESSAGE_BYTES, 2)?;
            qp.post_send(&mut memory, MESSAGE_BYTES.., 1)?;
        }
        let mut done = 0;
        while done < 2 {
            for completion in cq.poll(&mut completions[..])? {
                if let Some((status, vendor)) = completion.error() {
                    return Err(io::Error::other(format!("a message failed: {status:?}, vendor error {vendor}")));
                }
                done += 1;
            }
        }
        if message >= WARM_UP {
            took_ns.push(start.elapsed().as_nanos() as u64);
        }
    }
    took_ns.sort_unstable();
    Ok(took_ns)
}

fn run() -> io::Result<()> {
    let devices = ibverbs::devices()?;
    if devices.is_empty() {
        return Err(io::Error::other("there is no RDMA device"));
    }
    list(&devices)?;
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next();
    let gid_index = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let is_wanted = |device: &ibverbs::Device<'_>| match (&wanted, device.name()) {
        (Some(wanted), Some(name)) => name.to_string_lossy() == wanted.as_str(),
        (wanted, _) => wanted.is_none(),
    };
    let device = devices.iter().find(is_wanted).ok_or_else(|| io::Error::other("there is no such device"))?;
    let took_ns = floor(&device, gid_index)?;
    let us = |share: f64| took_ns[((took_ns.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    println!("send and receive of {MESSAGE_BYTES} bytes: p50 {:.1} us, p99 {:.1} us, p999 {:.1} us", us(0.5), us(0.99), us(0.999));
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

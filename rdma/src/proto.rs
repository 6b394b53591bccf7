//! The wire facts of Valkey over RDMA: control messages and the meaning of an immediate. Pure: bytes
//! in, values or a reason out. It knows neither verbs nor connections.

/// Length of every control message in bytes; any other length is an error.
pub const CONTROL_BYTES: usize = 32;

const GET_SERVER_FEATURE: u16 = 0;
const SET_CLIENT_FEATURE: u16 = 1;
const KEEPALIVE: u16 = 2;
const REGISTER_XFER_MEMORY: u16 = 3;

/// Memory a peer lets us write into: linear, from its start to its exact end, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Remote virtual address.
    pub address: u64,
    /// Length in bytes.
    pub length: u32,
    /// The key that opens it.
    pub rkey: u32,
}

/// A control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Asks for the features of a server, and is its answer.
    GetServerFeature {
        /// Which set of features; an answer echoes it.
        select: u16,
        /// Feature bits; none is defined yet.
        features: u64,
    },
    /// Tells a server what its client will use.
    SetClientFeature {
        /// Which set of features.
        select: u16,
        /// Feature bits; none is defined yet.
        features: u64,
    },
    /// Sent to find out whether the peer is alive; nothing answers it.
    Keepalive,
    /// The receive window from now on; writing starts at its first byte again.
    RegisterXferMemory(Window),
}

/// What is wrong with a control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// It is not [`CONTROL_BYTES`] long.
    #[error("a control message of {0} bytes")]
    Length(usize),
    /// Nobody knows its opcode.
    #[error("unknown control opcode {0}")]
    Opcode(u16),
}

fn u16_at(bytes: &[u8; CONTROL_BYTES], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; CONTROL_BYTES], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; CONTROL_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}

impl Control {
    /// The message as it travels: [`CONTROL_BYTES`] bytes, big-endian, what is reserved zero.
    #[must_use]
    pub fn encode(&self) -> [u8; CONTROL_BYTES] {
        let mut bytes = [0; CONTROL_BYTES];
        let opcode = match *self {
            Control::GetServerFeature { select, features } => {
                bytes[2..4].copy_from_slice(&select.to_be_bytes());
                bytes[24..32].copy_from_slice(&features.to_be_bytes());
                GET_SERVER_FEATURE
            }
            Control::SetClientFeature { select, features } => {
                bytes[2..4].copy_from_slice(&select.to_be_bytes());
                bytes[24..32].copy_from_slice(&features.to_be_bytes());
                SET_CLIENT_FEATURE
            }
            Control::Keepalive => KEEPALIVE,
            Control::RegisterXferMemory(window) => {
                bytes[16..24].copy_from_slice(&window.address.to_be_bytes());
                bytes[24..28].copy_from_slice(&window.length.to_be_bytes());
                bytes[28..32].copy_from_slice(&window.rkey.to_be_bytes());
                REGISTER_XFER_MEMORY
            }
        };
        bytes[0..2].copy_from_slice(&opcode.to_be_bytes());
        bytes
    }

    /// Reads one message. Reserved bytes are not looked at: a later version may use them.
    ///
    /// # Errors
    /// [`ControlError`] for a wrong length or an unknown opcode.
    pub fn decode(bytes: &[u8]) -> Result<Control, ControlError> {
        let bytes: &[u8; CONTROL_BYTES] = bytes.try_into().map_err(|_| ControlError::Length(bytes.len()))?;
        let (select, features) = (u16_at(bytes, 2), u64_at(bytes, 24));
        match u16_at(bytes, 0) {
            GET_SERVER_FEATURE => Ok(Control::GetServerFeature { select, features }),
            SET_CLIENT_FEATURE => Ok(Control::SetClientFeature { select, features }),
            KEEPALIVE => Ok(Control::Keepalive),
            REGISTER_XFER_MEMORY => Ok(Control::RegisterXferMemory(Window {
                address: u64_at(bytes, 16),
                length: u32_at(bytes, 24),
                rkey: u32_at(bytes, 28),
            })),
            opcode => Err(ControlError::Opcode(opcode)),
        }
    }
}

/// What is wrong with an announced window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Shorter or longer than the limits.
    #[error("a window of {0} bytes")]
    Length(u32),
    /// It runs past the end of the address space.
    #[error("a window of {length} bytes at {address:#x}")]
    Address {
        /// Where it starts.
        address: u64,
        /// Its length in bytes.
        length: u32,
    },
}

impl Window {
    /// Checks an announcement against `length_min..=length_max` bytes.
    ///
    /// # Errors
    /// [`WindowError`] for a length out of bounds or an address that overflows.
    pub fn check(&self, length_min: u32, length_max: u32) -> Result<(), WindowError> {
        if self.length == 0 || self.length < length_min || self.length > length_max {
            return Err(WindowError::Length(self.length));
        }
        match self.address.checked_add(u64::from(self.length)) {
            Some(_) => Ok(()),
            None => Err(WindowError::Address { address: self.address, length: self.length }),
        }
    }
}

/// What is wrong with an immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImmediateError {
    /// It says that nothing was written.
    #[error("an immediate of 0 bytes")]
    Zero,
    /// It says more than the window has left.
    #[error("an immediate of {immediate} bytes with {room} left in the window")]
    BeyondWindow {
        /// What it says.
        immediate: u32,
        /// Bytes left.
        room: u32,
    },
    /// The write that carried it alone was longer than it says.
    #[error("an immediate of {immediate} bytes on a write of {written}")]
    ShorterThanWrite {
        /// What it says.
        immediate: u32,
        /// Length of the write in bytes.
        written: u32,
    },
}

/// Checks an immediate: the bytes written since the one before, by the write that carries it
/// (`written` bytes) and by plain writes ahead of it, into a window with `room` bytes left.
///
/// # Errors
/// [`ImmediateError`]; the connection cannot go on after one.
pub fn check_immediate(immediate: u32, written: u32, room: u32) -> Result<(), ImmediateError> {
    if immediate == 0 {
        return Err(ImmediateError::Zero);
    }
    if immediate > room {
        return Err(ImmediateError::BeyondWindow { immediate, room });
    }
    if written > immediate {
        return Err(ImmediateError::ShorterThanWrite { immediate, written });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_layout_is_the_documented_one() {
        let window = Window { address: 0x0102_0304_0506_0708, length: 0x1112_1314, rkey: 0x2122_2324 };
        let mut want = [0u8; 32];
        want[1] = 3;
        want[16..].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x23, 0x24]);
        assert_eq!(Control::RegisterXferMemory(window).encode(), want);
        let mut want = [0u8; 32];
        want[2..4].copy_from_slice(&[0xab, 0xcd]);
        want[31] = 9;
        assert_eq!(Control::GetServerFeature { select: 0xabcd, features: 9 }.encode(), want);
        want[1] = 1;
        assert_eq!(Control::SetClientFeature { select: 0xabcd, features: 9 }.encode(), want);
        let mut want = [0u8; 32];
        want[1] = 2;
        assert_eq!(Control::Keepalive.encode(), want);
    }

    #[test]
    fn immediates_are_held_to_the_window() {
        assert_eq!(check_immediate(0, 0, 10), Err(ImmediateError::Zero));
        assert_eq!(check_immediate(10, 10, 10), Ok(()));
        assert_eq!(check_immediate(10, 3, 10), Ok(()));
        assert_eq!(check_immediate(11, 11, 10), Err(ImmediateError::BeyondWindow { immediate: 11, room: 10 }));
        assert_eq!(
            check_immediate(u32::MAX, 1, 1 << 20),
            Err(ImmediateError::BeyondWindow { immediate: u32::MAX, room: 1 << 20 })
        );
        assert_eq!(check_immediate(4, 5, 10), Err(ImmediateError::ShorterThanWrite { immediate: 4, written: 5 }));
    }

    #[test]
    fn windows_are_held_to_limits() {
        let window = |address, length| Window { address, length, rkey: 0 };
        assert_eq!(window(0, 0).check(0, u32::MAX), Err(WindowError::Length(0)));
        assert_eq!(window(0, 99).check(100, 200), Err(WindowError::Length(99)));
        assert_eq!(window(0, u32::MAX).check(100, 200), Err(WindowError::Length(u32::MAX)));
        assert!(window(u64::MAX - 99, 100).check(100, 200).is_err());
        assert_eq!(window(u64::MAX - 100, 100).check(100, 200), Ok(()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            match Control::decode(&bytes) {
                Ok(control) => {
                    prop_assert_eq!(bytes.len(), CONTROL_BYTES);
                    prop_assert_eq!(Control::decode(&control.encode()), Ok(control));
                }
                Err(ControlError::Length(len)) => prop_assert!(len == bytes.len() && len != CONTROL_BYTES),
                Err(ControlError::Opcode(opcode)) => {
                    prop_assert_eq!(opcode, u16::from_be_bytes([bytes[0], bytes[1]]));
                    prop_assert!(opcode > REGISTER_XFER_MEMORY);
                }
            }
        }

        #[test]
        fn low_opcodes_always_decode(opcode in 0u16..4, rest in proptest::collection::vec(any::<u8>(), 30)) {
            let mut bytes = opcode.to_be_bytes().to_vec();
            bytes.extend(rest);
            let control = Control::decode(&bytes).unwrap();
            prop_assert_eq!(Control::decode(&control.encode()), Ok(control));
        }

        #[test]
        fn what_passes_stays_in_the_window(immediate: u32, written: u32, room: u32) {
            if check_immediate(immediate, written, room).is_ok() {
                prop_assert!(immediate > 0 && immediate <= room && written <= immediate);
            }
        }
    }
}

//! All commands by name: declarations and their numbers, made once from what it is given.

use super::args::Args;
use super::id::CommandId;
use super::spec::Spec;

/// Slots of the name index; a power of two, several times the number of commands.
const SLOTS: usize = 2048;
const EMPTY: u16 = u16::MAX;

/// All commands.
pub struct CommandTable {
    specs: Vec<&'static Spec>,
    /// Number of commands that are no subcommands; they come first.
    top_level: usize,
    /// For each container, its subcommands' places: first and count.
    subcommands: Vec<(u16, u16)>,
    slots: Box<[u16; SLOTS]>,
}

impl CommandTable {
    /// A table of `top_level` commands; `subcommands` has those of each, in the same order. Commands get
    /// their numbers in order, subcommands after all others.
    #[must_use]
    pub fn new(top_level: &[&'static Spec], subcommands: &[Vec<&'static Spec>]) -> Self {
        let mut specs = top_level.to_vec();
        let mut places = Vec::with_capacity(top_level.len());
        for subcommands in subcommands {
            places.push((specs.len() as u16, subcommands.len() as u16));
            specs.extend(subcommands);
        }
        let mut slots = Box::new([EMPTY; SLOTS]);
        for (at, spec) in top_level.iter().enumerate() {
            let mut slot = slot_of(spec.name.as_bytes());
            while slots[slot] != EMPTY {
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = at as u16;
        }
        CommandTable { specs, top_level: top_level.len(), subcommands: places, slots }
    }

    /// A command's declaration.
    ///
    /// # Panics
    /// If the number is another table's.
    #[must_use]
    #[inline]
    pub fn spec(&self, id: CommandId) -> &'static Spec {
        self.specs[id.index()]
    }

    /// A container's subcommands.
    pub fn subcommands(&self, container: CommandId) -> impl Iterator<Item = CommandId> + use<> {
        let (first, count) = self.subcommands.get(container.index()).copied().unwrap_or_default();
        (first..first + count).map(CommandId::new)
    }

    /// Commands and subcommands together.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.specs.len()
    }

    /// Finds a command by name, whatever the case.
    #[must_use]
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<CommandId> {
        let mut slot = slot_of(name);
        loop {
            let at = self.slots[slot];
            if at == EMPTY {
                return None;
            }
            if self.specs[at as usize].name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(CommandId::new(at));
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// Finds a container's subcommand.
    #[must_use]
    pub fn find_sub(&self, container: CommandId, name: &[u8]) -> Option<CommandId> {
        self.subcommands(container).find(|id| self.spec(*id).own_name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// Finds what a command's words name: the subcommand where there is one.
    #[must_use]
    #[inline]
    pub fn resolve(&self, args: &Args<'_>) -> Option<CommandId> {
        let id = self.find(args.get(0))?;
        if !self.spec(id).is_container || args.len() < 2 {
            return Some(id);
        }
        self.find_sub(id, args.get(1)).or(Some(id))
    }

    /// Finds `name`, or `container|sub`.
    #[must_use]
    pub fn find_full(&self, name: &[u8]) -> Option<CommandId> {
        match name.iter().position(|&byte| byte == b'|') {
            None => self.find(name),
            Some(at) => self.find_sub(self.find(&name[..at])?, &name[at + 1..]),
        }
    }

    /// Commands that are no subcommands.
    pub fn top_level(&self) -> impl Iterator<Item = (CommandId, &'static Spec)> {
        self.specs[..self.top_level].iter().enumerate().map(|(at, spec)| (CommandId::new(at as u16), *spec))
    }

    /// All commands and subcommands.
    pub fn all(&self) -> impl Iterator<Item = (CommandId, &'static Spec)> {
        self.specs.iter().enumerate().map(|(at, spec)| (CommandId::new(at as u16), *spec))
    }
}

/// The slot a name belongs to: letters count alike in either case.
#[inline]
fn slot_of(name: &[u8]) -> usize {
    let mut hash: u64 = name.len() as u64;
    for &byte in &name[..name.len().min(24)] {
        hash = (hash ^ u64::from(byte | 0x20)).wrapping_mul(0x0100_0000_01b3);
    }
    (hash ^ (hash >> 29)) as usize % SLOTS
}

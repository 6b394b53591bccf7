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

/// Finds commands of which many in a row are the same: the last one is told by its name as it was written.
#[derive(Default)]
pub struct LastFound {
    name: [u8; LastFound::NAME_MAX],
    len: usize,
    id: Option<CommandId>,
}

impl LastFound {
    /// Longer names are looked up each time.
    const NAME_MAX: usize = 16;

    /// As [`CommandTable::resolve`], always with the same table.
    #[must_use]
    #[inline]
    pub fn resolve(&mut self, table: &CommandTable, args: &Args<'_>) -> Option<CommandId> {
        let name = args.get(0);
        if self.id.is_some() && *name == self.name[..self.len] {
            return self.id;
        }
        let id = table.resolve(args)?;
        // What a container's words name depends on the second.
        if name.len() <= Self::NAME_MAX && !table.spec(id).name.contains('|') && !table.spec(id).is_container {
            self.name[..name.len()].copy_from_slice(name);
            (self.len, self.id) = (name.len(), Some(id));
        }
        Some(id)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::OwnedCommand;
    use crate::command::spec::Group;

    static GET: Spec = Spec::new("get", Group::String, "1.0.0", 2, 0);
    static SET: Spec = Spec::new("set", Group::String, "1.0.0", 3, 0);
    static CONFIG: Spec = Spec { is_container: true, ..Spec::new("config", Group::Server, "1.0.0", -2, 0) };
    static CONFIG_GET: Spec = Spec::new("config|get", Group::Server, "1.0.0", 3, 0);

    /// In whatever order they come, the last one is never taken for another.
    #[test]
    fn the_last_one_found_is_what_is_asked_for() {
        let table = CommandTable::new(&[&GET, &SET, &CONFIG], &[vec![], vec![], vec![&CONFIG_GET]]);
        let mut last = LastFound::default();
        let asked =
            ["get", "get", "GET", "set", "config get", "config", "get", "nothing", "get", "ge", "gett", "", "set"];
        for words in asked.iter().chain(asked.iter().rev()) {
            let mut command = OwnedCommand::default();
            words.split(' ').for_each(|word| command.push(word.as_bytes()));
            let args = command.args();
            assert_eq!(last.resolve(&table, &args), table.resolve(&args), "{words}");
        }
    }
}

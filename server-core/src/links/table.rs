//! All links, with their handlers. Who calls a handler takes both out and puts them back.

use tercel_transport::{Address, ConnectOptions};

use super::Link;

/// Names a link; never another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkKey {
    slot: u32,
    number: u64,
}

struct Slot<H> {
    number: u64,
    taken: bool,
    entry: Option<(Link, H)>,
}

/// The links, each with its handler `H`.
pub struct Links<H> {
    slots: Vec<Slot<H>>,
    free: Vec<u32>,
    opened_ever: u64,
    /// Links that the executor has something to do for; some may be gone by now, or be there twice.
    work: Vec<LinkKey>,
}

impl<H> Default for Links<H> {
    fn default() -> Self {
        Links { slots: Vec::new(), free: Vec::new(), opened_ever: 0, work: Vec::new() }
    }
}

impl<H> Links<H> {
    /// Adds a link that is to be dialled.
    pub fn insert(&mut self, to: Address, options: ConnectOptions, handler: H) -> LinkKey {
        self.opened_ever += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { number: 0, taken: false, entry: None });
            (self.slots.len() - 1) as u32
        });
        let number = self.opened_ever;
        let entry = Some((Link::new(to, options), handler));
        self.slots[slot as usize] = Slot { number, taken: false, entry };
        LinkKey { slot, number }
    }

    fn slot(&mut self, key: LinkKey) -> Option<&mut Slot<H>> {
        self.slots.get_mut(key.slot as usize).filter(|slot| slot.number == key.number)
    }

    /// Looks a link up; not while its handler is at work, which was lent it.
    #[must_use]
    pub fn get(&self, key: LinkKey) -> Option<&Link> {
        let slot = self.slots.get(key.slot as usize).filter(|slot| slot.number == key.number)?;
        slot.entry.as_ref().map(|(link, _)| link)
    }

    /// Changes a link; what it is to send, or that it is to end, the executor is told. `None` as
    /// [`Links::get`].
    pub fn change<R>(&mut self, key: LinkKey, change: impl FnOnce(&mut Link) -> R) -> Option<R> {
        let (link, _) = self.slot(key)?.entry.as_mut()?;
        let result = change(link);
        if link.wants_work() {
            self.work.push(key);
        }
        Some(result)
    }

    /// Takes link and handler out, to call it.
    pub fn take(&mut self, key: LinkKey) -> Option<(Link, H)> {
        let slot = self.slot(key)?;
        let entry = slot.entry.take()?;
        slot.taken = true;
        Some(entry)
    }

    /// Puts them back.
    pub fn put(&mut self, key: LinkKey, link: Link, handler: H) {
        let wants_work = link.wants_work();
        if let Some(slot) = self.slot(key)
            && std::mem::take(&mut slot.taken)
        {
            slot.entry = Some((link, handler));
            if wants_work {
                self.work.push(key);
            }
        }
    }

    /// Forgets a link, taken out or not; its handler, if it is there. For the executor, which closes the
    /// connection; everybody else asks for that with [`Link::close`].
    pub fn remove(&mut self, key: LinkKey) -> Option<(Link, H)> {
        let slot = self.slot(key)?;
        let entry = slot.entry.take();
        if entry.is_none() && !slot.taken {
            return None;
        }
        slot.taken = false;
        slot.number = 0;
        self.free.push(key.slot);
        entry
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them.
    pub fn keys(&self) -> impl Iterator<Item = LinkKey> + '_ {
        let live = self.slots.iter().enumerate().filter(|(_, slot)| slot.taken || slot.entry.is_some());
        live.map(|(at, slot)| LinkKey { slot: at as u32, number: slot.number })
    }

    /// Memory held for all of them in bytes, as of the executor's last look at each.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref()).map(|(link, _)| link.memory()).sum()
    }

    /// The earliest time a handler waits for, in milliseconds since 1970.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref()?.0.deadline_ms()).min()
    }

    /// The links whose time has come.
    #[must_use]
    pub fn overdue(&self, now_ms: i64) -> Vec<LinkKey> {
        self.keys()
            .filter(|key| self.get(*key).and_then(Link::deadline_ms).is_some_and(|at_ms| at_ms <= now_ms))
            .collect()
    }

    /// Whether the executor has something to do for any.
    #[must_use]
    #[inline]
    pub fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    /// The links it has something to do for.
    pub fn take_work(&mut self) -> Vec<LinkKey> {
        std::mem::take(&mut self.work)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tercel_transport::{Close, ConnId};

    fn open(links: &mut Links<u8>, handler: u8) -> LinkKey {
        links.insert(Address::Memory(0), ConnectOptions::default(), handler)
    }

    #[test]
    fn a_key_never_means_another_link() {
        let mut links = Links::default();
        let first = open(&mut links, 1);
        assert_eq!(links.len(), 1);
        assert_eq!(links.remove(first).map(|(_, handler)| handler), Some(1));
        let second = open(&mut links, 2);
        assert_ne!(first, second);
        assert!(links.get(first).is_none() && links.take(first).is_none() && links.remove(first).is_none());
        assert!(links.change(first, |_| ()).is_none());
        assert_eq!(links.keys().collect::<Vec<_>>(), [second]);
        assert!(links.is_empty() || links.len() == 1);
    }

    #[test]
    fn one_that_was_removed_while_its_handler_was_at_work_stays_away() {
        let mut links = Links::default();
        let key = open(&mut links, 1);
        let (link, handler) = links.take(key).unwrap();
        assert!(links.get(key).is_none());
        assert!(links.take(key).is_none());
        assert!(links.remove(key).is_none());
        let other = open(&mut links, 2);
        links.put(key, link, handler);
        assert!(links.get(key).is_none());
        assert_eq!(links.take(other).map(|(_, handler)| handler), Some(2));
    }

    #[test]
    fn the_executor_is_told_what_there_is_to_do() {
        let mut links = Links::default();
        let key = open(&mut links, 1);
        links.change(key, |link| link.send(b"early")).unwrap();
        // It has no connection yet to send by.
        assert!(!links.has_work());
        links.change(key, |link| link.dialled(ConnId { index: 0, generation: 0 })).unwrap();
        assert_eq!(links.take_work(), [key]);
        let owed = links.change(key, |link| {
            link.note_held(10, 100);
            (link.owed_len(), link.memory() >= 105)
        });
        assert_eq!(owed, Some((15, true)));
        assert_eq!(links.change(key, Link::take_output).unwrap().unwrap().plain(), b"early");
        links.take_work();
        links.change(key, |link| link.set_deadline_ms(Some(7))).unwrap();
        assert!(!links.has_work());
        assert_eq!((links.next_deadline_ms(), links.overdue(6).len(), links.overdue(7).len()), (Some(7), 0, 1));
        links.change(key, |link| link.close(Close::Abort)).unwrap();
        assert_eq!(links.take_work(), [key]);
    }
}

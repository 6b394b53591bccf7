//! A command's number.

/// A command's place in the [table](crate::command::CommandTable).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommandId(u16);

impl CommandId {
    pub(super) const fn new(place: u16) -> Self {
        CommandId(place)
    }

    /// The place as a number.
    #[must_use]
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

//! The types of values.

/// What type of value an entry holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A string of bytes, possibly held as an integer.
    String = 0,
    /// A list.
    List = 1,
    /// A hash.
    Hash = 2,
}

impl Kind {
    /// Its name, as `TYPE` says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Hash => "hash",
        }
    }
}

/// The value is of another type than the one it was asked for as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongType;

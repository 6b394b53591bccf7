//! What several families need for their arguments and the strings they name. Knows no family.

pub(crate) mod expiry;
pub(crate) mod held;
pub(crate) mod long_double;
pub(crate) mod names;
pub(crate) mod target;
pub(crate) mod timeout;

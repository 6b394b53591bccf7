//! Reading arguments that several families take. Knows no family.

pub(crate) mod expiry;
pub(crate) mod names;

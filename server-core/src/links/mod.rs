//! Links: connections that the server itself wants, to a primary, to the target of a migration. A link is not a
//! client: nobody sees it in CLIENT LIST, and what its bytes mean is its handler's matter. Here is what is known
//! of each and what the executor is to do for it; the room knows neither the handlers nor a transport's calls.

mod link;
mod table;

pub use link::{Link, LinkEnd};
pub use table::{LinkKey, Links};

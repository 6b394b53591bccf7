//! From a parsed command to its handler: whether it may run, the run itself with its measurements, and
//! what follows from it. Knows commands by their declarations alone.

mod admit;
mod after;
mod call;
mod command;
mod context;
mod process;
mod slices;
mod subcommands;
mod waiting;

pub use admit::LOADING;
pub use call::apply;
pub use command::{Command, client_cmd, cmd};
pub use context::{Commands, Context, Handler};
pub use process::{Flow, process, protocol_error};
pub use slices::{SLICED_MAX, resume};
pub use subcommands::{container, help};
pub use waiting::{GiveUp, give_up, give_up_overdue, go_on_serving};

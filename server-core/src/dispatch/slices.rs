//! Long commands: begun by their handlers, gone on with between the commands of others, answered at the end.

use super::after::count_and_log;
use super::context::{Commands, Context};
use super::waiting::serve_waiting;
use crate::clients::{Client, SLICE_NS, Slice, Sliced, Wait};
use crate::command::error::CommandError;
use crate::command::{Args, Outcome, OwnedCommand, Reply};
use crate::server::Server;

/// As many are under way at most, since each keeps memory and what it looks at; others begin when one is done.
pub const SLICED_MAX: usize = 4;

impl Context<'_> {
    /// Does what may take long: at once if it does not, else in slices, and whole where nobody may wait for it,
    /// as in a transaction.
    ///
    /// # Errors
    /// What it answers, if that is an error.
    pub fn in_slices(&mut self, args: &Args<'_>, mut job: Box<dyn Slice>) -> Outcome {
        let mut answer = Reply::new(self.out.version);
        answer.set_room(self.out.room());
        if !self.caller.may_wait || self.caller.in_transaction {
            while !answer.is_over() && job.step(args, self.server.data_mut(), &mut answer) {
                if job.gathered() > answer.room() {
                    answer.give_up();
                }
            }
            job.abandon(self.server.data_mut());
            return self.answered(answer);
        }
        let until_ns = self.server.clock().mono_ns() + SLICE_NS;
        while job.step(args, self.server.data_mut(), &mut answer) {
            if self.server.clock().mono_ns() >= until_ns {
                let most = if job.is_done() { usize::MAX } else { SLICED_MAX };
                if !self.server.clients_mut().begin_sliced(most) {
                    // It begins anew, of a later moment.
                    job.abandon(self.server.data_mut());
                    self.caller.wait = Some(Wait::Turn);
                    return Ok(());
                }
                self.caller.wait = Some(Wait::Slices(Box::new(Sliced {
                    job,
                    answer,
                    id: self.id,
                    args: OwnedCommand::from_args(args),
                    request_len: 0,
                    spent_ns: 0,
                    is_muted: false,
                    sent_len: None,
                })));
                return Ok(());
            }
        }
        self.answered(answer)
    }

    /// An error is told as such, whether it comes from a handler or a slice.
    fn answered(&mut self, mut answer: Reply) -> Outcome {
        if let Some(text) = answer.as_error() {
            return Err(CommandError::new(text));
        }
        self.out.append(&mut answer);
        Ok(())
    }
}

/// Goes on with the long command of a client, which is the current one, until the clock says `until_ns`. True
/// when it is answered.
pub fn resume(commands: &'static Commands, server: &mut Server, client: &mut Client, until_ns: u64) -> bool {
    let Client { caller, out, session } = client;
    let Some(sliced) = caller.sliced() else { return true };
    let begin_ns = server.clock().mono_ns();
    while !sliced.answer.is_over() && sliced.job.step(&sliced.args.args(), server.data_mut(), &mut sliced.answer) {
        if sliced.job.gathered() > sliced.answer.room() {
            sliced.answer.give_up();
        }
        let now_ns = server.clock().mono_ns();
        if now_ns >= until_ns {
            sliced.spent_ns += now_ns - begin_ns;
            let before = out.len();
            sliced.send_so_far(out);
            session.output.count_replied(out.len() - before.min(out.len()));
            server.settle_slice();
            return false;
        }
    }
    sliced.job.abandon(server.data_mut());
    let Some(Wait::Slices(sliced)) = caller.wait.take() else { return true };
    server.clients_mut().end_sliced();
    let Sliced { mut answer, id, args, request_len, spent_ns, is_muted, sent_len, .. } = *sliced;
    server.settle_slice();
    let took_ns = spent_ns + server.clock().mono_ns() - begin_ns;
    let reply_len = answer.len() + sent_len.unwrap_or(0);
    let error = if sent_len.is_none() { answer.as_error() } else { None };
    if let Some(text) = &error {
        server.stats_mut().record_error(text);
    }
    if !is_muted {
        // What was sent before is counted.
        session.output.count_replied(answer.len());
        out.append(&mut answer);
    }
    session.output.end_pieces(out);
    let spec = commands.table.spec(id);
    let mut cx =
        Context { server: &mut *server, caller, out: &mut *out, client: Some(&mut *session), id, spec, commands };
    count_and_log(&mut cx, &args.args(), took_ns, error.is_some(), request_len, reply_len);
    if server.data().has_changed_awaited() {
        serve_waiting(commands, server);
    }
    server.clients_mut().settle_current(session, out);
    true
}

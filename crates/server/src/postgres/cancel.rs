//! Cancel requests: they come over a connection of their own and name the session by a number and a secret.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Every session that can be asked to cancel.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    live: Mutex<HashMap<u32, (u32, Arc<Running>)>>,
}

/// The statement that a session runs, if any.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<Option<CancellationToken>>);

impl Running {
    /// Begins a statement; the token tells that it is to end.
    pub(super) fn begin(&self) -> CancellationToken {
        let token = CancellationToken::new();
        *self.0.lock() = Some(token.clone());
        token
    }

    /// Ends it: what is cancelled from here on is nothing.
    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }
}

impl Sessions {
    /// Adds a session; `random` gives its number and its secret.
    pub(super) fn enter(self: &Arc<Self>, mut random: impl FnMut() -> u32) -> Entered {
        let running = Arc::new(Running::default());
        let secret = random();
        let mut live = self.live.lock();
        let process = loop {
            // Programs show it as a process id.
            let process = random() & 0x7fff_ffff;
            if process != 0 && !live.contains_key(&process) {
                break process;
            }
        };
        live.insert(process, (secret, Arc::clone(&running)));
        Entered { sessions: Arc::clone(self), process, secret, running }
    }

    /// Cancels what the session runs; says whether there was something to cancel.
    pub(super) fn cancel(&self, process: u32, secret: u32) -> bool {
        let live = self.live.lock();
        let Some((_, running)) = live.get(&process).filter(|(own, _)| *own == secret) else { return false };
        let token = running.0.lock().take();
        token.inspect(CancellationToken::cancel).is_some()
    }
}

/// A session, until it is dropped.
#[derive(Debug)]
pub(super) struct Entered {
    sessions: Arc<Sessions>,
    pub(super) process: u32,
    pub(super) secret: u32,
    pub(super) running: Arc<Running>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.sessions.live.lock().remove(&self.process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_cancels_and_only_what_runs() {
        let sessions = Arc::new(Sessions::default());
        let mut numbers = [7, 1, 1, 2].into_iter();
        let first = sessions.enter(|| numbers.next().expect("enough numbers"));
        assert_eq!((first.secret, first.process), (7, 1));
        assert!(!sessions.cancel(1, 7), "nothing runs");
        let token = first.running.begin();
        assert!(!sessions.cancel(1, 8), "the secret is wrong");
        assert!(!token.is_cancelled());
        assert!(sessions.cancel(1, 7));
        assert!(token.is_cancelled());
        first.running.end();
        drop(first);
        assert!(!sessions.cancel(1, 7), "the session is gone");
    }
}

//! Turns to compute: so many requests at a time, one connection after another, quiet ones first.
//!
//! *Why.* A flood has a hundred bodies ready at once. Were each decoded as soon as its task runs, whoever has a small request would wait for
//! all of them, in the queue of the thread that reads for everybody. So the next body is taken up only once one is done, and the thread looks
//! in between at all else that it has to do.
//!
//! *Invariant.* A turn that is given back is free again or somebody's, whoever left the line meanwhile.
//!
//! *Cost.* A short lock to come and one to go; a wake-up where it was waited.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::connection::Peer;
use crate::turns::Turns;

/// See the module.
#[derive(Debug)]
pub(crate) struct Turnstile {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    line: Turns<oneshot::Sender<Turn>>,
}

/// The right to compute, until dropped.
#[derive(Debug)]
pub(crate) struct Turn(Option<Arc<Turnstile>>);

impl Turnstile {
    /// Lets `turns` compute at a time; at least one.
    pub(crate) fn new(turns: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { free: turns.max(1), line: Turns::default() }) })
    }

    /// Waits in line for a turn of `peer`.
    pub(crate) async fn turn(self: &Arc<Self>, peer: Peer) -> Turn {
        let wait = {
            let mut state = self.state.lock();
            if state.free > 0 {
                state.free -= 1;
                return Turn(Some(Arc::clone(self)));
            }
            let (granted, wait) = oneshot::channel();
            state.line.push_for(peer, granted);
            wait
        };
        wait.await.expect("nobody leaves the line but to be granted a turn, and the line is here as long as who waits")
    }

    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.state.lock().free
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.state.lock().line.len()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(mut stile) = self.0.take() else { return };
        loop {
            let next = {
                let mut state = stile.state.lock();
                let next = state.line.pop();
                state.free += usize::from(next.is_none());
                next
            };
            let Some((_, granted)) = next else { return };
            match granted.send(Self(Some(stile))) {
                Ok(()) => return,
                // It left the line: the next one.
                Err(mut unclaimed) => match unclaimed.0.take() {
                    Some(back) => stile = back,
                    None => return,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    fn peer(number: usize, quiet: bool) -> Peer {
        Peer { number, stream_bytes: 1, unread_max: 1, quiet }
    }

    /// Has somebody wait in line, who notes its name when its turn comes.
    async fn line_up(
        stile: &Arc<Turnstile>,
        peer: Peer,
        name: &'static str,
        served: &Arc<Mutex<Vec<&'static str>>>,
    ) -> tokio::task::JoinHandle<()> {
        let (line, noted, before) = (Arc::clone(stile), Arc::clone(served), stile.waiting());
        let waits = tokio::spawn(async move {
            let _turn = line.turn(peer).await;
            noted.lock().push(name);
        });
        while stile.waiting() == before {
            tokio::task::yield_now().await;
        }
        waits
    }

    #[tokio::test]
    async fn connections_take_turns_and_a_quiet_one_is_first() {
        let stile = Turnstile::new(1);
        let served = Arc::default();
        let held = stile.turn(peer(1, false)).await;
        let mut all = Vec::new();
        for (number, quiet, name) in
            [(1, false, "flood"), (1, false, "flood again"), (2, false, "other"), (3, true, "quiet")]
        {
            all.push(line_up(&stile, peer(number, quiet), name, &served).await);
        }
        drop(held);
        for one in all {
            one.await.expect("does not panic");
        }
        assert_eq!(*served.lock(), ["quiet", "flood", "other", "flood again"]);
        assert_eq!(stile.free(), 1);
    }

    #[tokio::test]
    async fn who_leaves_the_line_is_passed_over_and_no_turn_is_lost() {
        let stile = Turnstile::new(1);
        let served = Arc::default();
        let held = stile.turn(peer(1, false)).await;
        let leaves = line_up(&stile, peer(2, false), "gone", &served).await;
        let stays = line_up(&stile, peer(3, false), "here", &served).await;
        leaves.abort();
        assert!(leaves.await.expect_err("left").is_cancelled());
        drop(held);
        stays.await.expect("does not panic");
        assert_eq!(*served.lock(), ["here"]);
        assert_eq!((stile.free(), stile.waiting()), (1, 0));
    }

    #[tokio::test]
    async fn who_leaves_with_a_turn_just_granted_gives_it_back() {
        let stile = Turnstile::new(1);
        let held = stile.turn(peer(1, false)).await;
        let mut waits = Box::pin(stile.turn(peer(2, false)));
        let pending = poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())).await;
        assert!(pending);
        drop(held);
        assert_eq!(stile.free(), 0, "granted, and not taken yet");
        drop(waits);
        assert_eq!(stile.free(), 1);
    }
}

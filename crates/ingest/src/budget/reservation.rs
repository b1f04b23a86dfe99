//! What a request has of the budget: how it grows, is stated anew and given back.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Ask, Reservation};
use crate::connection::Peer;

impl Reservation {
    /// Returns whose it is.
    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// Takes `more` bytes, at once or not at all.
    pub(crate) fn try_grow(&mut self, more: usize) -> bool {
        self.absorb_if(self.budget.take_now(self.grows(more, 0)))
    }

    /// Takes `more` bytes; waits for them until `deadline`, ahead of new requests. False where they could not be had. Of its body
    /// `unread` bytes are not read meanwhile.
    pub(crate) async fn grow(&mut self, more: usize, unread: usize, deadline: Instant) -> bool {
        self.take(self.grows(more, unread), deadline).await
    }

    /// Takes `more` bytes for a body that is on its way and is taken to announce `announced` by now, or as much as before where that was more: at once
    /// or not at all.
    pub(crate) fn try_grow_underway(&mut self, more: usize, announced: usize) -> bool {
        self.absorb_if(self.budget.take_now(self.comes(more, announced, 0)))
    }

    /// The same, waiting in line until `deadline`, with others that announce much. Of its body `unread` bytes are not read meanwhile.
    pub(crate) async fn grow_underway(
        &mut self,
        more: usize,
        announced: usize,
        unread: usize,
        deadline: Instant,
    ) -> bool {
        self.take(self.comes(more, announced, unread), deadline).await
    }

    async fn take(&mut self, ask: Ask, deadline: Instant) -> bool {
        let taken = match self.budget.take_now(ask) {
            Some(taken) => Some(taken),
            None => self.budget.wait(ask, deadline).await,
        };
        self.absorb_if(taken)
    }

    /// No request may wait for what it holds itself.
    fn grows(&self, more: usize, unread: usize) -> Ask {
        let need = self.budget.need(more).min(self.budget.capacity - self.bytes).max(0);
        Ask { peer: self.peer, unread, need, held: self.bytes, grows: true, announces: false, own: 0, underway: 0 }
    }

    fn comes(&self, more: usize, announced: usize, unread: usize) -> Ask {
        let underway = self.budget.need(announced).saturating_sub(self.underway).max(0);
        Ask { announces: true, own: self.underway, underway, ..self.grows(more, unread) }
    }

    fn absorb_if(&mut self, taken: Option<Self>) -> bool {
        let Some(mut taken) = taken else { return false };
        self.bytes += std::mem::take(&mut taken.bytes);
        self.underway += std::mem::take(&mut taken.underway);
        true
    }

    /// Hands over what is held, to whoever outlives this; what is left holds nothing.
    pub(crate) fn lend(&mut self) -> Self {
        let bytes = std::mem::take(&mut self.bytes);
        let underway = std::mem::take(&mut self.underway);
        let excess = std::mem::take(&mut self.excess);
        Self { budget: Arc::clone(&self.budget), peer: self.peer, bytes, underway, excess }
    }

    /// States that what was announced has come, and has grown where it was to.
    pub(crate) fn arrived(&mut self) {
        let underway = std::mem::take(&mut self.underway);
        if underway != 0 {
            self.budget.give_back(0, underway);
        }
    }

    /// Returns how many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(0)
    }

    /// Says whether it is all that there can be.
    pub(crate) fn is_all(&self) -> bool {
        self.bytes >= self.budget.capacity
    }

    /// States that `bytes` are held at the most.
    pub(crate) fn lower(&mut self, bytes: usize) {
        if bytes < self.bytes() {
            self.settle(bytes);
        }
    }

    /// States that `bytes` are held at the least.
    pub(crate) fn raise(&mut self, bytes: usize) {
        if self.bytes < i64::try_from(bytes).unwrap_or(i64::MAX) {
            self.settle(bytes);
        }
    }

    /// States that exactly `bytes` are held from here on.
    pub(super) fn settle(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let back = self.bytes - bytes;
        self.bytes = bytes;
        if back != 0 {
            self.budget.give_back(back, 0);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.excess != 0 {
            self.budget.state.lock().excess -= self.excess;
        }
        if self.bytes != 0 || self.underway != 0 || self.excess != 0 {
            self.budget.give_back(self.bytes, self.underway);
        }
    }
}

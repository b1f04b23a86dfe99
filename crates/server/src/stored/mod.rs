//! The engine over what the store holds: one verdict judged again, and past deploys judged as if it were then.
//!
//! | file | owns |
//! |---|---|
//! | `load` | stored rows of `operations` and `signals` into a state |
//! | `replay` | one verdict judged again |
//! | `past` | past deploys judged as if it were then |

mod load;
mod past;
mod replay;

pub(crate) use load::operations_of;
pub(crate) use past::{Ask, KNOWN, backtest};
pub(crate) use replay::{ReplayError, Replayed, replay};

//! What those who do not vote are told: the view, signed by a majority of those who do.
//!
//! A [`Feed`] on a control node has the latest views and who signed them; a [`Follower`] on a
//! gateway decides which to believe; a [`Kept`] is the last of them on its disk. All three are
//! fed messages and moments, and do nothing by themselves.
//!
//! Deliberately absent: the network, the disk and the clock. The secret parts of the state
//! (operators, tokens, pending changes) are not in a view and cannot be asked for here.

mod feed;
mod follower;
mod frames;
mod kept;
mod statement;

pub use feed::{Feed, HISTORY, Step, Vouched};
pub use follower::{Follower, Output, Publish, Refused, Trusted};
pub use frames::{Asked, Assembler, Frame, MAX_FRAME, MAX_PIECE, decode, encode, pieces};
pub use kept::{Kept, MAX_KEPT};
pub use statement::{Recovery, Signature, Signed, Statement, Succession, Voters};

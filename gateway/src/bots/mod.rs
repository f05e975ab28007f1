//! What is looked after without anybody asking: the certificates of this node's doors.

pub mod certificates;

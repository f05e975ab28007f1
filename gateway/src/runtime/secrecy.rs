//! Keys, client keys and tokens live in this process's memory, and stay there.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From now on this process leaves no core dump, no other of its user's processes can read its memory or its environment, and neither can be
/// had back. What it starts has no core dumps either.
///
/// # Errors
/// In words: what the kernel refused. The rest is done all the same.
pub fn keep_memory_off_disk() -> Result<(), String> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let limited = setrlimit(Resource::Core, none);
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    limited.map_err(|error| format!("core dumps could not be switched off: {error}"))?;
    hidden.map_err(|error| format!("the process could not be made undumpable: {error}"))
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn a_process_that_keeps_its_memory_leaves_no_core_dump_and_cannot_be_looked_into() {
        keep_memory_off_disk().unwrap();
        let left = getrlimit(Resource::Core);
        assert_eq!((left.current, left.maximum), (Some(0), Some(0)));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}

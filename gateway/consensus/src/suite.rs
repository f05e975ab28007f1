//! The consensus library's own tests of a store, on real files.

use crate::log::Log;
use crate::logs::NoLeaves;
use crate::machine::Machine;
use crate::tables::{self, Beginning};
use crate::types::Types;
use crate::writer::Writer;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use portcullis_policy::NodeId;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn the_librarys_own_tests_of_a_store_pass() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tested = runtime.block_on(Suite::test_all(Files(AtomicU64::new(0))));
    tested.unwrap();
}

struct Files(AtomicU64);

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl StoreBuilder<Types, Log, Machine, Directory> for Files {
    async fn build(&self) -> Result<(Directory, Log, Machine), StorageError<Types>> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/tmp")
            .join(format!("suite-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("state.redb");
        let loaded = tables::open(&path, NodeId::FIRST, Beginning::Joining).unwrap();
        let (writer, _) = Writer::start(
            Arc::clone(&loaded.database),
            loaded.sequence,
            Arc::clone(&loaded.mark),
            crate::pace::Pace::new(|| std::time::Duration::ZERO),
        )
        .unwrap();
        let log = Log::new(&loaded, writer.clone());
        let (machine, _) = Machine::new(&loaded, &path, writer, None, Arc::new(NoLeaves)).unwrap();
        Ok((Directory(directory), log, machine))
    }
}

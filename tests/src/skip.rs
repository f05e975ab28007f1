//! Tests that need what the machine may not give: said loudly, counted, and never skipped in CI.

use std::io::Write;

/// Returns from the test, loudly, when this process is not root.
///
/// ```no_run
/// # fn test() {
/// portcullis_tests::requires_root!();
/// # }
/// ```
#[macro_export]
macro_rules! requires_root {
    () => {
        if !$crate::scratch::is_root() {
            $crate::skip::skipped(
                module_path!(),
                line!(),
                "needs root, for network namespaces",
            );
            return;
        }
    };
}

/// Says that a test was skipped, past the capture of test output, and notes it in
/// target/tmp/skipped for `make test` to count.
///
/// # Panics
/// In CI (`CI=true`): there everything runs.
pub fn skipped(test: &str, line: u32, why: &str) {
    let told = format!("SKIPPED: {test}, line {line}: {why}\n");
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "in CI nothing is skipped: {told}"
    );
    let _ = std::io::stderr().write_all(told.as_bytes());
    let folder = super::scratch::repository().join("target/tmp");
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("skipped"))
        .and_then(|mut file| file.write_all(told.as_bytes()));
}

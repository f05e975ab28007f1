//! Parts of evidence bundles that are each as they were signed, and that do not belong together.

mod exported;
mod logs;

use std::fs;
use std::path::{Path, PathBuf};

use exported::{EARLY, check, export, json, sum_anew};
use logs::Site;
use portcullis_tests::Finished;
use serde_json::Value;

#[test]
fn a_tenant_s_log_that_is_missing_or_of_before_is_found_by_what_the_fleet_s_says() {
    let mut site = Site::grown(&logs::VOTERS);
    let before = exported(&site, "before");
    site.add(&logs::tenant("acme"), 3);
    site.seal();
    let bundle = exported(&site, "bundle");
    let (size, older) = (
        logs_of(&bundle)[1]["size"].clone(),
        logs_of(&before)[1].clone(),
    );
    assert_eq!(older["log"], "tenants/acme");

    // An older checkpoint, with all that belongs to it: signed and cosigned like the other.
    let own = bundle.join("log/tenants/acme");
    fs::remove_dir_all(&own).unwrap();
    logs::copy(&before.join("log/tenants/acme"), &own);
    let told = with_logs(&bundle, |logs| logs[1] = older.clone());
    let says = format!(
        "says that the log of acme has {size} entries: it has {}",
        older["size"]
    );
    assert!(told.stdout.contains(&says), "{told}");

    fs::rename(bundle.join("log/fleet"), site.scratch.path().join("fleet")).unwrap();
    let fleet = logs_of(&bundle)[0].clone();
    let told = with_logs(&bundle, |logs| drop(logs.remove(0)));
    assert!(
        told.stdout.contains("neither the log of the fleet"),
        "{told}"
    );
    fs::rename(site.scratch.path().join("fleet"), bundle.join("log/fleet")).unwrap();

    fs::remove_dir_all(&own).unwrap();
    let told = with_logs(&bundle, |logs| *logs = vec![fleet, logs.remove(1)]);
    assert!(
        told.stdout.contains("of fleet says that the log of acme"),
        "{told}"
    );
}

fn exported(site: &Site, name: &str) -> PathBuf {
    let bundle = site.scratch.path().join(name);
    let told = export(&site.folder(), &site.trust(), &EARLY, &bundle);
    assert!(told.status.success(), "{told}");
    let told = check(&bundle, &[]);
    assert!(told.ok().ends_with("the bundle is whole"), "{told}");
    bundle
}

fn logs_of(bundle: &Path) -> Vec<Value> {
    json(bundle, "manifest.json")["logs"]
        .as_array()
        .unwrap()
        .clone()
}

/// What is said of a bundle whose manifest has other logs.
fn with_logs(bundle: &Path, change: impl FnOnce(&mut Vec<Value>)) -> Finished {
    let mut manifest = json(bundle, "manifest.json");
    change(manifest["logs"].as_array_mut().unwrap());
    fs::write(bundle.join("manifest.json"), manifest.to_string()).unwrap();
    sum_anew(bundle);
    let told = check(bundle, &[]);
    assert_eq!(told.status.code(), Some(1), "{told}");
    told
}

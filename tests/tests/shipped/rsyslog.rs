//! rsyslog, as many run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_tests::process::Service;
use portcullis_tests::{Gateway, Scratch, TestAuthority, ports, wait};
use rustix::process::Signal;
use serde_json::Value;

use super::{SOON, wait_for_all};

const PROGRAM: &str = "/usr/sbin/rsyslogd";
const TLS: &str = "/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_ossl.so";

/// Takes messages over TLS and writes a line of JSON for each.
pub(crate) struct Rsyslog {
    scratch: Scratch,
    port: u16,
    _service: Service,
}

impl Rsyslog {
    /// None where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        if !Path::new(PROGRAM).exists() || !Path::new(TLS).exists() {
            return None;
        }
        let scratch = Scratch::new("rsyslog");
        let authority = TestAuthority::new("Receivers");
        let _ = authority.server(&["siem.test"]).write(&scratch, "server");
        scratch.write("ca.pem", authority.pem());
        let port = ports::free();
        let folder = scratch.path().display();
        let properties = [
            ("hostname", "host"),
            ("app-name", "app"),
            ("msgid", "kind"),
            ("structured-data", "sd"),
            ("msg", "line"),
        ];
        let properties: Vec<String> = properties
            .iter()
            .map(|(name, out)| {
                format!("property(name=\"{name}\" outname=\"{out}\" format=\"jsonf\")")
            })
            .collect();
        let text = format!(
            "global(workDirectory=\"{folder}\" maxMessageSize=\"64k\" defaultNetstreamDriver=\"ossl\"\n\
             defaultNetstreamDriverCAFile=\"{folder}/ca.pem\" defaultNetstreamDriverCertFile=\"{folder}/server.pem\"\n\
             defaultNetstreamDriverKeyFile=\"{folder}/server.key\")\n\
             module(load=\"imtcp\" StreamDriver.Name=\"ossl\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\")\n\
             input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\" ruleset=\"all\")\n\
             template(name=\"out\" type=\"list\" option.jsonf=\"on\") {{ {} }}\n\
             ruleset(name=\"all\") {{ action(type=\"omfile\" file=\"{folder}/out\" template=\"out\") }}\n",
            properties.join(" ")
        );
        let configuration = scratch.write("rsyslog.conf", text);
        let mut command = Command::new(PROGRAM);
        command.arg("-n").arg("-f").arg(configuration);
        command.arg("-i").arg(scratch.path().join("pid"));
        let service = Service::start(
            "rsyslog",
            &command,
            &scratch.path().join("log"),
            Signal::KILL,
        );
        wait::wait_for("rsyslog", SOON, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(Self {
            scratch,
            port,
            _service: service,
        })
    }

    pub(crate) fn table(&self) -> String {
        let (port, folder) = (self.port, self.scratch.path().display());
        format!(
            "[audit.syslog]\naddress = \"127.0.0.1:{port}\"\nca = \"{folder}/ca.pem\"\nserver-name = \"siem.test\"\n"
        )
    }

    /// Everything that it took, in order.
    pub(crate) fn taken(&self) -> Vec<Value> {
        let out: PathBuf = self.scratch.path().join("out");
        let text = fs::read_to_string(out).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
            })
            .collect()
    }

    /// Waits until it has all that is in the node's logs now.
    pub(crate) fn has_all(&self, gateway: &Gateway) {
        wait_for_all(&gateway.data_directory().join("audit/logs"), || {
            let taken = self.taken().into_iter().map(|it| {
                let text = |name: &str| it[name].as_str().unwrap().to_owned();
                let data = text("sd");
                let of = |name: &str| {
                    let (_, rest) = data
                        .split_once(&format!(" {name}=\""))
                        .expect("a parameter");
                    rest.split_once('"').expect("its end").0.to_owned()
                };
                let line = text("line");
                let line = line.trim_start_matches('\u{feff}').to_owned();
                (of("log"), of("index").parse().unwrap(), line)
            });
            taken.collect()
        });
    }
}

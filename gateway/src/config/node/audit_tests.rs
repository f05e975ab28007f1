use std::path::Path;

use super::{NodeConfig, OtlpTarget, SyslogTransport};

const COMMON: &str = "name = \"n1\"\ndata = \"data\"\n[admin]\nsocket = \"admin.sock\"\n[[certificate]]\nchain = \"c\"\nkey = \"k\"\n[[listener]]\naddress = \"127.0.0.1:5433\"\norigin = \"public\"\n";

fn parse(more: &str) -> Result<NodeConfig, String> {
    let path = Path::new("/etc/portcullis/node.toml");
    let parsed = NodeConfig::parse(&format!("{COMMON}{more}"), path);
    parsed.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn sinks_are_read_with_their_files_beside_the_configuration() {
    let audit = parse("[audit.ocsf]\nfile = \"events.jsonl\"\n[audit.otlp]\nurl = \"https://c/v1/logs\"\nca = \"c.pem\"\n[audit.syslog]\naddress = \"[::1]:6514\"\nca = \"s.pem\"\n").unwrap().audit;
    assert_eq!(audit.ocsf, Some("/etc/portcullis/events.jsonl".into()));
    let otlp = OtlpTarget {
        url: "https://c/v1/logs".to_owned(),
        ca: Some("/etc/portcullis/c.pem".into()),
        token: None,
    };
    assert_eq!(audit.otlp, Some(otlp));
    let syslog = audit.syslog.unwrap();
    assert_eq!(
        (&*syslog.host, syslog.port, syslog.enterprise),
        ("::1", 6514, 32_473)
    );
    let tls = SyslogTransport::Tls {
        ca: "/etc/portcullis/s.pem".into(),
        server_name: "::1".to_owned(),
        identity: None,
    };
    assert_eq!(syslog.transport, tls);
    let plain =
        "[audit.syslog]\naddress = \"localhost:514\"\ntransport = \"tcp\"\nenterprise-number = 7\n";
    let syslog = parse(plain).unwrap().audit.syslog.unwrap();
    assert_eq!(
        (syslog.transport, syslog.enterprise),
        (SyslogTransport::Tcp, 7)
    );
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_to_write() {
    let check = |more: &str, at: &str, says: &str| {
        let text = parse(more).unwrap_err();
        assert!(text.contains(at) && text.contains(says), "{more}: {text}");
    };
    let gateway = "[fleet]\nroles = [\"gateway\"]\n[audit.otlp]\nurl = \"https://c/\"\n";
    check(gateway, "node.toml:14:7", "write it on each of those");
    check(
        "[audit.otlp]\nurl = \"c:4318\"\n",
        "node.toml:12:7",
        "write the whole URL",
    );
    for url in [
        "https://user:s3cret@c/v1/logs",
        "https://s3cret@c",
        "https:///v1/logs",
        "https://c/#s3cret",
    ] {
        let more = format!("[audit.otlp]\nurl = \"{url}\"\n");
        check(
            &more,
            "node.toml:12:7",
            "without user, password or fragment",
        );
        assert!(!parse(&more).unwrap_err().contains("s3cret"), "{url}");
    }
    let unused = "[audit.otlp]\nurl = \"http://c/\"\nca = \"c.pem\"\n";
    check(unused, "node.toml:13:6", "take it out");
    for address in [
        "siem",
        "siem:0",
        ":6514",
        "si em:6514",
        "[::1:6514",
        "siem:70000",
    ] {
        let more = format!("[audit.syslog]\naddress = \"{address}\"\nca = \"c\"\n");
        check(&more, "node.toml:12:11", "write a host and a port");
    }
    let syslog = "[audit.syslog]\naddress = \"siem:6514\"\n";
    check(syslog, "node.toml:12:11", "audit.syslog.ca is missing");
    check(
        &format!("{syslog}transport = \"udp\"\n"),
        "node.toml:13:13",
        "write \"tls\"",
    );
    let both = format!("{syslog}transport = \"tcp\"\nca = \"c\"\n");
    check(&both, "node.toml:14:6", "nothing is verified");
    let half = format!("{syslog}ca = \"c\"\nkey = \"k\"\n");
    check(&half, "node.toml:14:7", "belong together");
    let clear = "[audit.otlp]\nurl = \"http://c/\"\ntoken-file = \"t\"\n";
    check(clear, "node.toml:13:14", "is for https://");
    let number = format!("{syslog}ca = \"c\"\nenterprise-number = 0\n");
    check(&number, "node.toml:14:21", "private enterprise number");
    check("[audit.kafka]\n", "node.toml:11", "kafka");
}

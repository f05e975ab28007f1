use portcullis_wire::negotiate::ProtocolVersion;
use portcullis_wire::startup::{Replication, StartupMessage, encode_startup};
use proptest::prelude::*;

use crate::packets::startup_body;

fn decode(parameters: &[(&str, &str)]) -> StartupMessage {
    StartupMessage::decode(&startup_body(parameters), ProtocolVersion::V3_0).unwrap()
}

fn check(body: &[u8], expected: &str) {
    let complaint = StartupMessage::decode(body, ProtocolVersion::V3_0).unwrap_err();
    assert_eq!(complaint.reason(), expected, "{complaint}");
}

fn check_parameters(parameters: &[(&str, &str)], expected: &str) {
    check(&startup_body(parameters), expected);
}

#[test]
fn a_packet_of_libpq_is_read_whole() {
    let startup = decode(&[
        ("user", "app"),
        ("database", "orders"),
        ("replication", "database"),
        ("options", "-c geqo=off"),
        ("application_name", "psql"),
        ("client_encoding", "UTF8"),
    ]);
    assert_eq!(startup.user, "app");
    assert_eq!(startup.database, "orders");
    assert_eq!(startup.options.as_deref(), Some("-c geqo=off"));
    assert_eq!(startup.replication, Replication::Logical);
    let rest: Vec<_> = startup
        .parameters
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        rest,
        [("application_name", "psql"), ("client_encoding", "UTF8")]
    );
    assert!(startup.protocol_options.is_empty());
}

#[test]
fn the_database_is_the_users_name_when_absent_or_empty() {
    assert_eq!(decode(&[("user", "app")]).database, "app");
    assert_eq!(decode(&[("user", "app"), ("database", "")]).database, "app");
    assert_eq!(
        decode(&[("database", "orders"), ("user", "app")]).database,
        "orders"
    );
}

#[test]
fn protocol_options_are_collected_by_name_and_the_rest_keeps_its_order() {
    let startup = decode(&[
        ("_pq_.test_protocol_negotiation", ""),
        ("b", "1"),
        ("user", "app"),
        ("_pq_.", "x"),
        ("a", ""),
        ("_PQ_.x", "a setting like any other"),
    ]);
    assert_eq!(
        startup.protocol_options,
        ["_pq_.test_protocol_negotiation", "_pq_."]
    );
    let names: Vec<_> = startup
        .parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["b", "a", "_PQ_.x"]);
}

#[test]
fn empty_values_are_values() {
    let startup = decode(&[("user", "app"), ("options", ""), ("application_name", "")]);
    assert_eq!(startup.options.as_deref(), Some(""));
    assert_eq!(
        startup.parameters,
        [("application_name".to_owned(), String::new())]
    );
}

#[test]
fn what_says_who_one_is_is_not_given_twice() {
    let user = ("user", "app");
    check_parameters(&[user, user], "duplicate_parameter");
    check_parameters(&[user, ("user", "postgres")], "duplicate_parameter");
    for name in ["database", "options", "replication", "_pq_.x"] {
        check_parameters(&[user, (name, "1"), (name, "0")], "duplicate_parameter");
    }
}

#[test]
fn a_setting_given_twice_is_passed_on_twice_and_in_order() {
    let startup = decode(&[
        ("user", "app"),
        ("DateStyle", "SQL"),
        ("datestyle", "ISO"),
        ("DateStyle", "German"),
    ]);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        startup.parameters,
        [
            pair("DateStyle", "SQL"),
            pair("datestyle", "ISO"),
            pair("DateStyle", "German")
        ]
    );
}

#[test]
fn reserved_names_are_written_in_lower_case() {
    for name in ["Database", "OPTIONS", "Replication"] {
        check_parameters(&[("user", "app"), (name, "x")], "parameter_spelling");
    }
    check_parameters(&[("User", "app")], "parameter_spelling");
}

#[test]
fn a_role_must_be_named() {
    check_parameters(&[], "missing_user");
    check_parameters(&[("database", "orders")], "missing_user");
    check_parameters(&[("user", ""), ("database", "orders")], "missing_user");
}

#[test]
fn layouts_that_are_not_pairs_with_a_terminator_are_refused() {
    for body in [
        &b""[..],
        b"user",
        b"user\0app",
        b"user\0app\0",
        b"user\0app\0\0x",
        b"user\0app\0\0\0",
        b"user\0app\0\0user\0postgres\0\0",
        b"user\0app\0key\0",
        b"user\0",
        b"\0\0",
        b"user\0app\0key\0\0",
    ] {
        check(body, "startup_layout");
    }
    check(b"\0", "missing_user");
}

#[test]
fn names_have_63_bytes_and_no_more() {
    let (fits, too_long) = ("n".repeat(63), "n".repeat(64));
    assert_eq!(decode(&[("user", &fits)]).user, fits);
    assert_eq!(decode(&[("user", "a"), ("database", &fits)]).database, fits);
    check_parameters(&[("user", &too_long)], "name_form");
    check_parameters(&[("user", "a"), ("database", &too_long)], "name_form");
    // Bytes count, as they do where PostgreSQL would cut.
    check_parameters(&[("user", &"\u{e9}".repeat(32))], "name_form");
    assert_eq!(decode(&[("user", "a"), (&fits, "")]).parameters[0].0, fits);
    check_parameters(&[("user", "a"), (&too_long, "")], "parameter_name");
}

#[test]
fn values_have_1024_bytes_and_no_more() {
    let (fits, too_long) = ("v".repeat(1024), "v".repeat(1025));
    assert_eq!(decode(&[("user", "a"), ("x", &fits)]).parameters[0].1, fits);
    for name in ["x", "options", "user", "_pq_.x"] {
        let parameters = [("user", "a"), (name, &too_long)];
        let skipped = usize::from(name == "user");
        check_parameters(&parameters[skipped..], "parameter_value");
    }
}

#[test]
fn there_are_64_parameters_and_no_more() {
    let names: Vec<String> = (0..64).map(|n| format!("p{n}")).collect();
    let mut parameters = vec![("user", "a")];
    parameters.extend(names.iter().map(|name| (name.as_str(), "")));
    assert_eq!(decode(&parameters[..64]).parameters.len(), 63);
    check_parameters(&parameters, "too_many_parameters");
    let thousands: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    let thousands: Vec<_> = thousands.iter().map(|name| (name.as_str(), "")).collect();
    check_parameters(&thousands, "too_many_parameters");
}

#[test]
fn what_is_not_utf_8_is_refused() {
    check(b"user\0\xFF\0\0", "parameter_encoding");
    check(b"user\0a\0\xC3\x28\0x\0\0", "parameter_encoding");
    check(b"user\0a\0x\0\xED\xA0\x80\0\0", "parameter_encoding");
}

#[test]
fn replication_is_read_as_postgresql_reads_it() {
    use Replication::{Logical, No, Physical};
    let read = |value| decode(&[("user", "a"), ("replication", value)]).replication;
    for value in ["true", "TRUE", "t", "tr", "yes", "Y", "on", "ON", "1"] {
        assert_eq!(read(value), Physical, "{value}");
    }
    for value in ["false", "f", "no", "n", "off", "of", "0"] {
        assert_eq!(read(value), No, "{value}");
    }
    assert_eq!(read("database"), Logical);
    assert_eq!(decode(&[("user", "a")]).replication, No);
    for value in [
        "", "o", "Database", "data", "truer", "2", "01", " true", "on ",
    ] {
        check_parameters(
            &[("user", "a"), ("replication", value)],
            "replication_value",
        );
    }
}

#[test]
fn another_major_version_is_never_read_as_ours() {
    for version in [0, 131_072, 262_144, u32::MAX] {
        let version = ProtocolVersion::from_u32(version);
        let complaint =
            StartupMessage::decode(&startup_body(&[("user", "a")]), version).unwrap_err();
        assert_eq!(complaint.reason(), "unsupported_version");
        assert_eq!(complaint.sqlstate().as_str(), "0A000");
    }
}

#[test]
fn what_goes_upstream_cannot_smuggle_a_parameter() {
    for (user, database, parameter) in [
        ("a\0superuser", "d", ("x", "y")),
        ("a", "d\0", ("x", "y")),
        ("a", "d", ("x\0", "y")),
        ("a", "d", ("x", "y\0user\0postgres")),
        ("a", "d", ("", "y")),
        ("", "d", ("x", "y")),
        ("a", "d", ("x", &"y".repeat(10_000))),
    ] {
        let complaint = encode_startup(user, database, [parameter]).unwrap_err();
        assert_eq!(complaint.reason(), "unencodable");
        assert_eq!(complaint.sqlstate().as_str(), "XX000");
    }
}

#[test]
fn the_upstream_packet_is_protocol_3_0() {
    let packet = encode_startup("app", "orders", [("application_name", "psql")]).unwrap();
    let expected = b"\0\0\0\x38\0\x03\0\0user\0app\0database\0orders\0application_name\0psql\0\0";
    assert_eq!(
        packet.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
}

proptest! {
    #[test]
    fn any_startup_survives_the_journey(
        user in "[^\0]{1,15}",
        database in "[^\0]{1,15}",
        options in proptest::option::of("[^\0]{0,40}"),
        settings in proptest::collection::btree_map("[a-z_.]{5,12}", "[^\0]{0,20}", 0..8),
    ) {
        let settings: Vec<(String, String)> =
            settings.into_iter().filter(|(name, _)| name != "options" && name != "database").collect();
        let parameters = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let options = options.as_deref();
        let packet = encode_startup(&user, &database, parameters.chain(options.map(|o| ("options", o)))).unwrap();
        let startup = StartupMessage::decode(&packet[8..], ProtocolVersion::V3_0).unwrap();
        let (protocol_options, parameters): (Vec<_>, Vec<_>) =
            settings.into_iter().partition(|(name, _)| name.starts_with("_pq_."));
        prop_assert_eq!(startup, StartupMessage {
            version: ProtocolVersion::V3_0,
            user,
            database,
            options: options.map(str::to_owned),
            replication: Replication::No,
            parameters,
            protocol_options: protocol_options.into_iter().map(|(name, _)| name).collect(),
        });
    }

    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = StartupMessage::decode(&body, ProtocolVersion::V3_0);
    }
}

//! A node's limits as text: one line each, those that somebody can run into first.

use super::table::table;
use crate::api::types::{LimitRow, LimitsReply};

/// Every limit, then what each tenant may have and has.
pub(in crate::cli) fn limits(reply: &LimitsReply) -> String {
    let head = ["limit", "value", "used", "shed", "set by", "what it bounds"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(reply.limits.iter().map(|row| {
        vec![
            row.name.clone(),
            amount(row),
            number(row.used),
            number(row.shed),
            row.set.clone(),
            row.bounds.clone(),
        ]
    }));
    let mut out = table(&rows);
    if !reply.tenants.is_empty() {
        let head = [
            "tenant",
            "connections",
            "of",
            "per endpoint",
            "unauthenticated",
            "new per second",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(reply.tenants.iter().map(|tenant| {
            vec![
                tenant.tenant.clone(),
                tenant.used.to_string(),
                tenant.connections.to_string(),
                tenant.connections_per_endpoint.to_string(),
                tenant.unauthenticated.to_string(),
                tenant.new_connections_per_second.to_string(),
            ]
        }));
        out.push('\n');
        out.push_str(&table(&rows));
    }
    out
}

fn number(known: Option<u64>) -> String {
    known.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn amount(row: &LimitRow) -> String {
    let value = row.value;
    match row.unit.as_str() {
        "seconds" if value < 1.0 => format!("{} ms", value * 1000.0),
        "seconds" => format!("{value} s"),
        "per second" => format!("{value}/s"),
        "bytes" if value >= MIB && value % MIB == 0.0 => format!("{} MiB", value / MIB),
        "bytes" if value >= KIB && value % KIB == 0.0 => format!("{} KiB", value / KIB),
        "bytes" => format!("{value} B"),
        _ => value.to_string(),
    }
}

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: f64, unit: &str) -> LimitRow {
        LimitRow {
            name: "first_bytes".to_owned(),
            value,
            unit: unit.to_owned(),
            used: None,
            shed: Some(7),
            set: "node.toml".to_owned(),
            bounds: "to the first request".to_owned(),
        }
    }

    #[test]
    fn amounts_read_as_people_write_them() {
        for (value, unit, expected) in [
            (0.5, "seconds", "500 ms"),
            (15.0, "seconds", "15 s"),
            (500.0, "per second", "500/s"),
            (65_536.0, "bytes", "64 KiB"),
            (10_000.0, "bytes", "10000 B"),
            (1_048_576.0, "bytes", "1 MiB"),
            (5_000.0, "count", "5000"),
        ] {
            assert_eq!(amount(&row(value, unit)), expected);
        }
    }

    #[test]
    fn a_limit_is_one_line_with_where_it_is_set() {
        let reply = LimitsReply {
            node: "gw1".to_owned(),
            limits: vec![row(3.0, "seconds")],
            tenants: Vec::new(),
        };
        assert_eq!(
            limits(&reply),
            "limit        value  used  shed  set by     what it bounds\nfirst_bytes  3 s    -     7     node.toml  to the first request\n"
        );
    }
}

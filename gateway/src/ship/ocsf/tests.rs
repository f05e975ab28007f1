use portcullis_audit::kinds;

use super::super::tail::Who;
use super::*;

/// What is published of the classes and objects in use: attributes with their types and what is demanded, and nothing of ours.
const SCHEMA: &str = include_str!("../../../testdata/ocsf/schema-1.1.0.json");

#[test]
fn every_kind_is_written_as_it_was_and_as_the_schema_demands() {
    let mut lines = String::new();
    for (index, kind) in (0_u64..).zip(kinds::ALL) {
        let mut event = Event::new(1_700_000_000_000, kind, "n1")
            .with("by", "operator a \"person\"\n")
            .with("name", "n2")
            .with("address", "2001:db8::7")
            .with("port", 50_000)
            .with("user", "reader")
            .with("endpoint", "acme/orders")
            .with("asked", "PC-1");
        event.tenant = Some("acme".to_owned());
        event.reference = Some("PC-1".to_owned());
        event.revision = Some(7);
        lines.push_str(&written(&item(index, &event)));
    }
    let who = Who {
        node: "n1",
        sink: "ocsf",
    };
    let gap = Item::gap("fleet", "portcullis/7f3a", (3, 9), 1_700_000_000_000, who);
    lines.push_str(&written(&gap));
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/ocsf/events.jsonl");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(golden, &lines).unwrap();
    }
    assert_eq!(lines, std::fs::read_to_string(golden).unwrap());
}

#[test]
fn entries_with_no_field_and_with_fields_of_other_forms_are_what_the_schema_demands() {
    let withheld = json!({"commitment": "00112233445566778899"});
    let other = [
        "by", "name", "address", "port", "user", "endpoint", "asked", "pending", "id", "version",
    ];
    for kind in kinds::ALL.into_iter().chain(["newer.kind", "nodot"]) {
        let mut event = Event::new(0, "x", "fleet");
        event.kind = kind.into();
        written(&item(0, &event));
        for value in [withheld.clone(), json!(null), json!(7), json!(["a", 1])] {
            let with = |event: Event, name: &&str| event.with(name, value.clone());
            written(&item(0, &other.iter().fold(event.clone(), with)));
        }
    }
    let event = Event::new(0, kinds::POLICY_APPLIED, "fleet").with("by", withheld);
    let told = encode(&item(0, &event));
    assert_eq!(told["actor"]["user"]["name"], "commitment:001122334455");
}

#[test]
fn the_check_by_the_schema_finds_what_is_not_as_it_demands() {
    let good = encode(&item(0, &Event::new(0, kinds::AUTHENTICATION_FAILED, "n1")));
    assert_eq!(faults(&good), Vec::<String>::new());
    let check = |change: fn(&mut Value), fault: &str| {
        let mut event = good.clone();
        change(&mut event);
        assert_eq!(faults(&event), [fault], "{event}");
    };
    check(
        |it| drop(it.as_object_mut().unwrap().remove("user")),
        "user is missing",
    );
    check(
        |it| drop(it["metadata"].as_object_mut().unwrap().remove("product")),
        "metadata.product is missing",
    );
    check(
        |it| it["user"] = json!({}),
        "user: none of account, name, uid",
    );
    check(
        |it| it["narration"] = json!(1),
        "narration is not in the schema",
    );
    check(|it| it["time"] = json!("1"), "time is no integer");
    check(
        |it| it["severity_id"] = json!(77),
        "severity_id: 77 is none of its values",
    );
    check(
        |it| {
            it["type_uid"] = json!(300_202);
        },
        "type_uid is not class_uid * 100 + activity_id",
    );
}

fn item(index: u64, event: &Event) -> Item {
    let origin = "portcullis/7f3a/tenants/acme";
    Item::entry("tenants/acme", origin, index, event.line().as_bytes()).unwrap()
}

fn written(item: &Item) -> String {
    let event = encode(item);
    assert_eq!(faults(&event), Vec::<String>::new(), "{event}");
    format!("{event}\n")
}

fn faults(event: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let class = event["class_uid"].to_string();
    let class = &schema["classes"][&class];
    let mut faults = Vec::new();
    look(&schema, class, event, "", &mut faults);
    let host = json!(["host"]);
    for (name, attribute) in class["attributes"].as_object().unwrap() {
        if attribute["profile"] == "host"
            && event.get(name).is_some()
            && event["metadata"]["profiles"] != host
        {
            faults.push(format!("{name} needs the profile host"));
        }
    }
    let number = |name: &str| event[name].as_u64().unwrap_or_default();
    if number("type_uid") != number("class_uid") * 100 + number("activity_id") {
        faults.push("type_uid is not class_uid * 100 + activity_id".to_owned());
    }
    if number("category_uid") != class["category_uid"].as_u64().unwrap() {
        faults.push("category_uid is another".to_owned());
    }
    faults
}

fn look(schema: &Value, of: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    let Some(members) = value.as_object() else {
        return faults.push(format!("{path} is no object"));
    };
    let at = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    let known = of["attributes"].as_object().expect("a class or an object");
    for (name, value) in members {
        match known.get(name) {
            Some(attribute) => each(schema, attribute, value, &at(name), faults),
            None => faults.push(format!("{} is not in the schema", at(name))),
        }
    }
    for (name, attribute) in known {
        if attribute["required"] == true
            && attribute["profile"].is_null()
            && !members.contains_key(name)
        {
            faults.push(format!("{} is missing", at(name)));
        }
    }
    if let Some(one_of) = of["at_least_one"].as_array() {
        let names: Vec<_> = one_of.iter().filter_map(Value::as_str).collect();
        if !names.iter().any(|name| members.contains_key(*name)) {
            faults.push(format!("{path}: none of {}", names.join(", ")));
        }
    }
}

fn each(schema: &Value, attribute: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    if attribute["is_array"] == true {
        let mut one = attribute.clone();
        one["is_array"] = Value::Null;
        let Some(values) = value.as_array() else {
            return faults.push(format!("{path} is no list"));
        };
        return values
            .iter()
            .for_each(|value| each(schema, &one, value, path, faults));
    }
    match attribute["type"].as_str().unwrap() {
        "object_t" if attribute["object"] == "object" && value.is_object() => {}
        "object_t" => {
            let object = &schema["objects"][attribute["object"].as_str().unwrap()];
            look(schema, object, value, path, faults);
        }
        "integer_t" | "long_t" | "timestamp_t" | "port_t" if !value.is_i64() => {
            faults.push(format!("{path} is no integer"));
        }
        "port_t" if value.as_u64().is_none_or(|port| port > 65_535) => {
            faults.push(format!("{path} is no port"));
        }
        "string_t" | "username_t" | "hostname_t" | "ip_t" if !value.is_string() => {
            faults.push(format!("{path} is no text"));
        }
        "ip_t" if value.as_str().unwrap().parse::<IpAddr>().is_err() => {
            faults.push(format!("{path} is no address"));
        }
        "integer_t" | "long_t" | "timestamp_t" | "port_t" | "string_t" | "username_t"
        | "hostname_t" | "ip_t" => {}
        other => panic!("{path}: {other} is not checked"),
    }
    if let Some(values) = attribute["enum"].as_array()
        && !values.contains(value)
    {
        faults.push(format!("{path}: {value} is none of its values"));
    }
}

//! Shapes by themselves: names, absence, refusals, hostile input. The protocols around them are tested beside them.

use super::*;
use crate::protocol::{json, query};
use crate::{Shape, codes};
use proptest::prelude::*;

#[derive(Clone, Debug, Default, PartialEq, Shape)]
struct Label {
    key: String,
    #[shape(default)]
    value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "Encrypted, KmsKeyId")]
#[shape(unsupported = "OutpostArn")]
struct Thing {
    thing_id: String,
    size: Option<i32>,
    big: Option<i64>,
    small: Option<u32>,
    ratio: Option<f64>,
    dry_run: Option<bool>,
    at: Option<Timestamp>,
    payload: Option<Blob>,
    label: Option<Label>,
    tags: Vec<Label>,
    addresses: Vec<String>,
    #[shape(request = "SecurityGroupId", response = "groupSet")]
    groups: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Shape)]
struct Filled {
    #[shape(required)]
    thing_ids: Vec<String>,
}

fn full() -> Thing {
    Thing {
        thing_id: "t-1 & <co>".into(),
        size: Some(-5),
        big: Some(1 << 40),
        small: Some(7),
        ratio: Some(2.0),
        dry_run: Some(true),
        at: Some(Timestamp::from_unix_ms(1_767_323_045_678)),
        payload: Some(Blob(b"#!/bin/sh".to_vec())),
        label: Some(Label { key: "a".into(), value: String::new() }),
        tags: vec![Label { key: "k".into(), value: "v".into() }],
        addresses: vec!["10.0.0.1".into(), "10.0.0.2".into()],
        groups: Vec::new(),
    }
}

fn read<T: Shape>(protocol: Protocol, text: &str) -> Result<T, ApiError> {
    let node = if protocol.is_json() { json::parse(text.as_bytes())? } else { query::parse(text, "")? };
    T::read(node, &Path::root(protocol))
}

fn written<T: Shape>(protocol: Protocol, value: &T) -> String {
    let mut writer = Writer::new(protocol);
    value.write(&mut writer);
    writer.finish()
}

fn refused<T: Shape + std::fmt::Debug>(protocol: Protocol, text: &str) -> (String, String) {
    let error = read::<T>(protocol, text).expect_err(text);
    (error.code.into_owned(), error.message)
}

#[test]
fn an_ec2_request_is_read() {
    let text = "ThingId=t-1+%26+%3Cco%3E&Size=-5&Big=1099511627776&Small=7&Ratio=2&DryRun=TRUE\
                &At=2026-01-02T03:04:05.678Z&Payload=IyEvYmluL3No&Label.Key=a\
                &Tag.7.Key=k&Tag.7.Value=v&Address.999999999=10.0.0.2&Address.2=10.0.0.1";
    assert_eq!(read::<Thing>(Protocol::Ec2, text).unwrap(), full());
}

#[test]
fn an_aws_query_request_is_read() {
    let text = "ThingId=t-1+%26+%3Cco%3E&Size=-5&Big=1099511627776&Small=7&Ratio=2&DryRun=true\
                &At=2026-01-02T03:04:05.678Z&Payload=IyEvYmluL3No&Label.Key=a&Groups=\
                &Tags.member.1.Key=k&Tags.member.1.Value=v\
                &Addresses.member.1=10.0.0.1&Addresses.member.2=10.0.0.2";
    assert_eq!(read::<Thing>(Protocol::Query, text).unwrap(), full());
}

#[test]
fn json_reads_what_it_writes() {
    let text = written(Protocol::Json11, &full());
    assert_eq!(
        text,
        r#"{"ThingId":"t-1 & <co>","Size":-5,"Big":1099511627776,"Small":7,"Ratio":2.0,"DryRun":true,"At":1767323045.678,"Payload":"IyEvYmluL3No","Label":{"Key":"a","Value":""},"Tags":[{"Key":"k","Value":"v"}],"Addresses":["10.0.0.1","10.0.0.2"],"Groups":[]}"#
    );
    assert_eq!(read::<Thing>(Protocol::Json11, &text).unwrap(), full());
    let nulls = r#"{"ThingId":"t","Size":null,"Tags":null}"#;
    assert_eq!(
        read::<Thing>(Protocol::Json11, nulls).unwrap(),
        Thing { thing_id: "t".into(), ..Thing::default() }
    );
}

#[test]
fn ec2_and_aws_query_answers_differ_in_names_and_lists() {
    assert_eq!(
        written(Protocol::Ec2, &full()),
        "<thingId>t-1 &amp; &lt;co&gt;</thingId><size>-5</size><big>1099511627776</big><small>7</small>\
         <ratio>2.0</ratio><dryRun>true</dryRun><at>2026-01-02T03:04:05.678Z</at>\
         <payload>IyEvYmluL3No</payload><label><key>a</key><value/></label>\
         <tagSet><item><key>k</key><value>v</value></item></tagSet>\
         <addressSet><item>10.0.0.1</item><item>10.0.0.2</item></addressSet><groupSet/>"
    );
    assert_eq!(
        written(Protocol::Query, &Thing { size: None, ..full() })
            .split_once("<Label>")
            .map(|(_, tail)| tail.to_owned())
            .unwrap(),
        "<Key>a</Key><Value/></Label><Tags><member><Key>k</Key><Value>v</Value></member></Tags>\
         <Addresses><member>10.0.0.1</member><member>10.0.0.2</member></Addresses><Groups/>"
    );
}

#[test]
fn xml_survives_hostile_text() {
    let text = String::from("a\0\u{1}\u{b}\u{1f}\u{fffe}<&>\"'\r\n\t\u{10ffff}");
    assert_eq!(
        written(Protocol::Ec2, &text),
        "a\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}&lt;&amp;&gt;&quot;&apos;&#xD;\n\t\u{10ffff}"
    );
    assert_eq!(written(Protocol::Json11, &String::from("\u{1}\"\\\n{[")), r#""\u0001\"\\\n{[""#);
}

#[test]
fn what_is_not_read_is_refused_by_its_full_name() {
    let unknown =
        |name: &str| ("UnknownParameter".to_owned(), format!("The parameter {name} is not recognized"));
    let ec2 = |text: &str| refused::<Thing>(Protocol::Ec2, text);
    assert_eq!(ec2("ThingId=t&Tag.1.Key=k&Tag.1.Bogus=1"), unknown("Tag.1.Bogus"));
    assert_eq!(ec2("ThingId=t&Tags.1.Key=k"), unknown("Tags.1.Key"));
    assert_eq!(ec2("ThingId=t&Tag.x.Key=k"), unknown("Tag.x.Key"));
    assert_eq!(ec2("ThingId=t&Tag.01.Key=k"), unknown("Tag.01.Key"));
    assert_eq!(ec2("ThingId=t&Tag.99999999999999999999.Key=k"), unknown("Tag.99999999999999999999.Key"));
    assert_eq!(
        refused::<Thing>(Protocol::Query, "ThingId=t&Tags.member.1.Key=k&Tags.entry.1.Key=k"),
        unknown("Tags.entry.1.Key")
    );
    assert_eq!(
        ec2("ThingId=t&Foo=1&Bar.2=1"),
        ("UnknownParameter".into(), "The parameters Bar.2, Foo are not recognized".into())
    );
    for name in ["Encrypted", "OutpostArn"] {
        assert_eq!(
            ec2(&format!("ThingId=t&{name}=true")),
            ("UnsupportedOperation".into(), format!("The parameter {name} is not supported by Nephos yet."))
        );
    }
    let (code, message) =
        refused::<Thing>(Protocol::Json11, r#"{"ThingId":"t","Tags":[{"Key":"k","Bogus":1}]}"#);
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("ValidationException", "The parameter Tags.1.Bogus is not recognized")
    );
}

#[test]
fn what_is_missing_or_wrong_is_refused_by_name() {
    let missing = |name: &str| {
        ("MissingParameter".to_owned(), format!("The request must contain the parameter {name}"))
    };
    assert_eq!(refused::<Thing>(Protocol::Ec2, ""), missing("ThingId"));
    assert_eq!(refused::<Thing>(Protocol::Ec2, "ThingId=t&Tag.3.Value=v"), missing("Tag.3.Key"));
    assert_eq!(refused::<Filled>(Protocol::Ec2, ""), missing("ThingId"));
    assert_eq!(read::<Filled>(Protocol::Ec2, "ThingId.1=x").unwrap().thing_ids, ["x"]);
    for wrong in [
        "Size=a",
        "Size=",
        "Size=2147483648",
        "Small=-1",
        "Ratio=NaN",
        "DryRun=1",
        "DryRun=",
        "At=yesterday",
        "At=1969-12-31T00:00:00Z",
        "Payload=%25",
        "Label=x",
        "Tag=x",
        "Size.1=4",
        "ThingId.1=x",
    ] {
        let text = if wrong.starts_with("ThingId") { wrong.to_owned() } else { format!("ThingId=t&{wrong}") };
        let (code, message) = refused::<Thing>(Protocol::Ec2, &text);
        assert_eq!(code, "InvalidParameterValue", "{wrong}");
        assert!(message.contains(wrong.split(['=', '.']).next().unwrap()), "{wrong}: {message}");
    }
    for wrong in [r#""Size":"1""#, r#""DryRun":"true""#, r#""At":"2026""#, r#""Tags":{}"#, r#""Size":1.5"#] {
        let (code, _) = refused::<Thing>(Protocol::Json11, &format!(r#"{{"ThingId":"t",{wrong}}}"#));
        assert_eq!(code, codes::SERIALIZATION_EXCEPTION.name, "{wrong}");
    }
}

#[test]
fn a_query_contradicts_itself_nowhere() {
    for text in
        ["A=1&A=2", "A=1&A.B=2", "A.B=2&A=1", "A.1=1&A.1=1", "A..B=1", ".=1", "=1", "A%=1", "A=%zz", "%ff=1"]
    {
        let error = query::parse(text, "").expect_err(text);
        assert_eq!(error.code, codes::MALFORMED_QUERY_STRING.name, "{text}");
    }
    assert!(query::parse("A=1", "A=2").is_err());
    assert!(json::parse(br#"{"A":1,"A":2}"#).is_err());
    for text in ["[]", "1", "{", "{}x", "{\"A\":1e999}", "\"\""] {
        assert!(json::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn everything_has_a_bound() {
    let many = |count: usize| (0..count).map(|i| format!("A.{i}=1")).collect::<Vec<_>>().join("&");
    assert!(query::parse(&many(Limits::PARAMETERS), "").is_ok());
    assert!(query::parse(&many(Limits::PARAMETERS + 1), "").is_err());
    assert!(query::parse(&vec!["a"; Limits::DEPTH].join("."), "").is_ok());
    assert!(query::parse(&vec!["a"; Limits::DEPTH + 1].join("."), "").is_err());
    assert!(query::parse(&"a".repeat(Limits::BYTES), "a").is_err());
    let list = |count| many(count).replace("A.", "ThingId.");
    assert!(read::<Filled>(Protocol::Ec2, &list(Limits::LIST)).is_ok());
    assert!(read::<Filled>(Protocol::Ec2, &list(Limits::LIST + 1)).is_err());
    assert!(json::parse(format!("{{\"a\":[{}1]}}", "1,".repeat(Limits::PARAMETERS)).as_bytes()).is_err());
    let deep = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(json::parse(deep(Limits::DEPTH - 1).as_bytes()).is_ok());
    assert!(json::parse(deep(Limits::DEPTH).as_bytes()).is_err());
    assert!(json::parse(deep(Limits::BYTES / 4).as_bytes()).is_err());
}

/// Requests that are nearly right, so that the readers behind the parser are reached.
fn nearly() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        "(ThingId|Size|Tag|Tags|Label|Address|Groups|DryRun|Payload|At)(\\.(member|Key|Value|[0-9]{1,12})){0,4}",
        "[A-Za-z0-9.%+]{0,12}",
    ];
    let value = prop_oneof!["[0-9a-zA-Z%+:.-]{0,12}", ".{0,12}"];
    proptest::collection::vec((key, value).prop_map(|(key, value)| format!("{key}={value}")), 0..8)
        .prop_map(|pairs| pairs.join("&"))
}

proptest! {
    #[test]
    fn no_query_panics(text in prop_oneof![nearly(), ".{0,200}"]) {
        let _ = read::<Thing>(Protocol::Ec2, &text);
        let _ = read::<Thing>(Protocol::Query, &text);
    }

    #[test]
    fn no_json_panics(text in prop_oneof![".{0,200}", "[\\[\\]{}\",:0-9a-zTS.eE+-]{0,200}"]) {
        let _ = read::<Thing>(Protocol::Json11, &text);
    }

    #[test]
    fn any_json_answer_is_read_back(id in ".*", value in ".*", bytes: Vec<u8>, size: i32, ratio in -1e300..1e300f64) {
        let thing = Thing {
            thing_id: id,
            size: Some(size),
            ratio: Some(ratio),
            payload: Some(Blob(bytes)),
            tags: vec![Label { key: "{[".into(), value }],
            ..Thing::default()
        };
        prop_assert_eq!(read::<Thing>(Protocol::Json11, &written(Protocol::Json11, &thing)).unwrap(), thing);
    }

    #[test]
    fn any_xml_answer_has_only_characters_that_xml_allows(text in any::<String>()) {
        let xml = written(Protocol::Ec2, &text);
        prop_assert!(!xml.contains(['<', '>', '"', '\'', '\r']));
        let allowed = |c| matches!(c, '\t' | '\n') || (c >= ' ' && c != '\u{fffe}' && c != '\u{ffff}');
        prop_assert!(xml.chars().all(allowed));
    }
}

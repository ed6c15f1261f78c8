//! botocore's models as the oracle, see `python/oracle.py`: every operation that the code has, through boto3.

use aws::service::ServiceTable;
use serde_json::{Value, json};
use testbed::{Options, Testbed};

#[test]
fn every_operation_answers_what_botocores_models_know() {
    let cloud = Testbed::start(Options { networks: true, ..Options::simulated(2) });
    let found = cloud.boto3("import oracle\nreturn oracle.run(client)");
    assert_eq!(found["invented"], json!([]), "answers have elements that AWS's do not");
    let tables: [(&str, &ServiceTable); 3] = [
        ("ec2", &aws::ec2::SERVICE),
        ("sts", &aws::sts::SERVICE),
        ("service-quotas", &aws::service_quotas::SERVICE),
    ];
    for (service, table) in tables {
        let called = found["called"][service].as_array().map(Vec::as_slice).unwrap_or_default();
        let called: Vec<&str> = called.iter().filter_map(Value::as_str).collect();
        let mut implemented = table.operations.to_vec();
        implemented.sort_unstable();
        assert_eq!(called, implemented, "the oracle calls every operation of {service} that there is");
    }
    for (operation, members) in found["members"].as_object().into_iter().flatten() {
        eprintln!("{operation}: {} members answered, {} at the top of AWS's model", members[0], members[1]);
    }
}

//! What programs do with boto3 beyond one call: waiters, pages, tokens, dry runs, tags, filters, keys.

use serde_json::{Value, json};
use testbed::{Options, Testbed};

#[test]
fn boto3_finds_what_it_knows_from_aws() {
    let mut options = Options::simulated(3);
    (options.vcpus_per_host, options.memory_per_host) = (64, 64);
    let cloud = Testbed::start(options);
    launches_are_idempotent(&cloud);
    pages_are_complete(&cloud);
    filters_select(&cloud);
    tags_come_and_go(&cloud);
    dry_runs_do_nothing(&cloud);
    instances_spread_over_zones(&cloud);
    key_pairs_are_kept(&cloud);
    states_change_by_waiters(&cloud);
}

/// What the scripts have in common.
fn run(cloud: &Testbed, script: &str) -> Value {
    let prelude = "
def launch(count=1, **parameters):
    answer = ec2.run_instances(**{'ImageId': 'nephos-linux', 'InstanceType': 't3.micro', 'MinCount': count,
                                  'MaxCount': count, **parameters})
    return [instance['InstanceId'] for instance in answer['Instances']]

def ids(**parameters):
    pages = ec2.get_paginator('describe_instances').paginate(**parameters)
    return sorted(i['InstanceId'] for page in pages for r in page['Reservations'] for i in r['Instances'])

def by(**filters):
    return ids(Filters=[{'Name': name.replace('_', '-'), 'Values': values} for name, values in filters.items()])

def code_of(function, **parameters):
    try:
        function(**parameters)
    except botocore.exceptions.ClientError as error:
        return error.response['Error']['Code']

brisk = {'Delay': 1, 'MaxAttempts': 120}
";
    cloud.boto3(&format!("{prelude}\n{}", dedented(script)))
}

/// A script as if it stood at the margin.
fn dedented(script: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let least = script.lines().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    let lines = script.lines().map(|line| line.get(least..).unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

fn launches_are_idempotent(cloud: &Testbed) {
    let seen = run(
        cloud,
        "
        first = launch(2, ClientToken='twice')
        again = launch(2, ClientToken='twice')
        other = code_of(launch, count=1, ClientToken='twice')
        ec2.get_waiter('instance_running').wait(InstanceIds=first, WaiterConfig=brisk)
        later = launch(2, ClientToken='twice')
        return [first == again == later, other, len(ids())]
        ",
    );
    assert_eq!(seen, json!([true, "IdempotentParameterMismatch", 2]));
}

fn pages_are_complete(cloud: &Testbed) {
    let seen = run(
        cloud,
        "
        launch(11)
        whole = ids()
        pages = list(ec2.get_paginator('describe_instances').paginate(PaginationConfig={'PageSize': 5}))
        sizes = [sum(len(r['Instances']) for r in page['Reservations']) for page in pages]
        paged = sorted(i['InstanceId'] for page in pages for r in page['Reservations'] for i in r['Instances'])
        types = [len(page['InstanceTypes']) for page in
                 ec2.get_paginator('describe_instance_types').paginate(PaginationConfig={'PageSize': 5})]
        all_types = len(ec2.describe_instance_types()['InstanceTypes'])
        return [whole == paged, sizes, sum(types) == all_types, max(types)]
        ",
    );
    assert_eq!(seen, json!([true, [5, 5, 3], true, 5]));
}

fn filters_select(cloud: &Testbed) {
    let seen = run(
        cloud,
        "
        one, two = launch(2, InstanceType='t3.small', TagSpecifications=[
            {'ResourceType': 'instance', 'Tags': [{'Key': 'Name', 'Value': 'web-1'}, {'Key': 'tier', 'Value': ''}]}])
        ec2.get_waiter('instance_running').wait(InstanceIds=ids(), WaiterConfig=brisk)
        both = sorted([one, two])
        return [
            by(instance_type=['t3.small']) == both,
            ids(Filters=[{'Name': 'tag:Name', 'Values': ['web-*']}]) == both,
            ids(Filters=[{'Name': 'tag:Name', 'Values': ['web-?x']}]) == [],
            ids(Filters=[{'Name': 'tag-key', 'Values': ['tier']}]) == both,
            by(instance_id=[one]) == [one],
            by(instance_state_name=['stopped', 'terminated']) == [],
            len(by(instance_state_name=['running'])) == 15,
            by(instance_type=['t3.small'], instance_id=[two]) == [two],
            len(ids(InstanceIds=[one], Filters=[{'Name': 'instance-type', 'Values': ['t3.micro']}])) == 0,
        ]
        ",
    );
    assert!(seen.as_array().is_some_and(|all| all.iter().all(|one| *one == true)), "{seen}");
}

fn tags_come_and_go(cloud: &Testbed) {
    let seen = run(
        cloud,
        "
        one = by(instance_type=['t3.small'])[0]
        def tags():
            found = ec2.describe_tags(Filters=[{'Name': 'resource-id', 'Values': [one]}])['Tags']
            return {tag['Key']: tag['Value'] for tag in found}
        ec2.create_tags(Resources=[one], Tags=[{'Key': 'a', 'Value': '1'}, {'Key': 'Name', 'Value': 'db'}])
        made = tags()
        ec2.delete_tags(Resources=[one], Tags=[{'Key': 'a', 'Value': 'other'}, {'Key': 'tier'}])
        kept = tags()
        ec2.delete_tags(Resources=[one])
        reserved = code_of(ec2.create_tags, Resources=[one], Tags=[{'Key': 'aws:x', 'Value': '1'}])
        absent = code_of(ec2.create_tags, Resources=['i-0123456789abcdef0'], Tags=[{'Key': 'x', 'Value': '1'}])
        return [made, kept, tags(), reserved, absent]
        ",
    );
    let made = json!({ "a": "1", "Name": "db", "tier": "" });
    let kept = json!({ "a": "1", "Name": "db" });
    assert_eq!(seen, json!([made, kept, {}, "InvalidParameterValue", "InvalidInstanceID.NotFound"]));
}

fn dry_runs_do_nothing(cloud: &Testbed) {
    let seen = run(
        cloud,
        "
        before = ids()
        all = [
            code_of(launch, DryRun=True),
            code_of(ec2.terminate_instances, InstanceIds=before, DryRun=True),
            code_of(ec2.stop_instances, InstanceIds=before, DryRun=True),
            code_of(ec2.describe_instances, DryRun=True),
            code_of(ec2.create_key_pair, KeyName='dry', DryRun=True),
        ]
        return [sorted(set(all)), ids() == before, len(by(instance_state_name=['running'])) == len(before),
                ec2.describe_key_pairs()['KeyPairs']]
        ",
    );
    assert_eq!(seen, json!([["DryRunOperation"], true, true, []]));
}

fn instances_spread_over_zones(cloud: &Testbed) {
    let seen = run(
        cloud,
        "
        placed = {}
        for zone in ec2.describe_availability_zones()['AvailabilityZones']:
            name = zone['ZoneName']
            subnet = ec2.describe_subnets(Filters=[{'Name': 'availability-zone', 'Values': [name]}])['Subnets'][0]
            made = launch(Placement={'AvailabilityZone': name}) + launch(SubnetId=subnet['SubnetId'])
            answer = ec2.describe_instances(InstanceIds=made)['Reservations']
            placed[name] = [i['Placement']['AvailabilityZone'] for r in answer for i in r['Instances']]
        return placed
        ",
    );
    for zone in ["us-east-1a", "us-east-1b", "us-east-1c"] {
        assert_eq!(seen[zone], json!([zone, zone]), "{seen}");
    }
}

fn key_pairs_are_kept(cloud: &Testbed) {
    let seen = run(
        cloud,
        "
        made = ec2.create_key_pair(KeyName='mine', KeyType='ed25519', TagSpecifications=[
            {'ResourceType': 'key-pair', 'Tags': [{'Key': 'of', 'Value': 'me'}]}])
        again = code_of(ec2.create_key_pair, KeyName='mine')
        bad = code_of(ec2.import_key_pair, KeyName='bad', PublicKeyMaterial=b'not a key')
        pair = ec2.describe_key_pairs(KeyPairIds=[made['KeyPairId']])['KeyPairs'][0]
        used = ec2.describe_instances(InstanceIds=launch(KeyName='mine'))['Reservations'][0]['Instances'][0]['KeyName']
        ec2.delete_key_pair(KeyName='mine')
        gone = code_of(ec2.describe_key_pairs, KeyNames=['mine'])
        ec2.delete_key_pair(KeyName='mine')
        return [again, bad, pair['KeyName'], pair['KeyType'], pair['Tags'], used, gone]
        ",
    );
    let tags = json!([{ "Key": "of", "Value": "me" }]);
    assert_eq!(
        seen,
        json!([
            "InvalidKeyPair.Duplicate",
            "InvalidKey.Format",
            "mine",
            "ed25519",
            tags,
            "mine",
            "InvalidKeyPair.NotFound"
        ])
    );
}

fn states_change_by_waiters(cloud: &Testbed) {
    let seen = run(
        cloud,
        "
        one = by(instance_type=['t3.small'])[0]
        ec2.stop_instances(InstanceIds=[one])
        ec2.get_waiter('instance_stopped').wait(InstanceIds=[one], WaiterConfig=brisk)
        reboot = code_of(ec2.reboot_instances, InstanceIds=[one])
        ec2.modify_instance_attribute(InstanceId=one, InstanceType={'Value': 't3.medium'})
        ec2.start_instances(InstanceIds=[one])
        ec2.get_waiter('instance_running').wait(InstanceIds=[one], WaiterConfig=brisk)
        kind = ec2.describe_instances(InstanceIds=[one])['Reservations'][0]['Instances'][0]['InstanceType']
        ec2.terminate_instances(InstanceIds=ids())
        ec2.get_waiter('instance_terminated').wait(InstanceIds=ids(), WaiterConfig=brisk)
        start = code_of(ec2.start_instances, InstanceIds=[one])
        ec2.terminate_instances(InstanceIds=[one])
        return [reboot, kind, start]
        ",
    );
    assert_eq!(seen, json!(["IncorrectInstanceState", "t3.medium", "IncorrectInstanceState"]));
    testbed::wait("the hosts are empty", testbed::LONG, || cloud.vms().is_empty().then_some(()));
}

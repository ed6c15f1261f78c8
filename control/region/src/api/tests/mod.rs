//! Operations as clients send them: decoded query strings through `dispatch`, against a model and an owner that does
//! what the region's does, without cells.

mod interface;
mod network;
mod security_group;
mod table;

use super::*;
use crate::asker::Ask;
use crate::fleet::Fleet;
use crate::instance::record::{InstanceRecord, ReservationRecord, TokenRecord};
use crate::instance::state::{Acceptance, Stage};
use crate::instance::{self as core};
use crate::network_interface::launch::interfaces_plan;
use crate::network_interface::record::LaunchInterfaceRecord;
use crate::owner::{self, Tx, Writes};
use crate::pool::{Pools, Reserved};
use crate::record::{Name, Record};
use crate::region::Identity;
use crate::region::Outcome;
use crate::region::execute::execute;
use crate::region::waiters::Wants;
use crate::request::LaunchRequest;
use crate::scene::Scene;
use crate::vpc::record::VpcRecord;
use aws::protocol::query;
use aws::shape::Node;
use aws::{Call, Response};
use base::clock::Timestamp;
use base::ids::{AccountId, InstanceId, ReservationId};
use base::random::Random;
use contract::ConsoleData;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

const IMAGE: &str = "ami-00000000000000001";

/// An API in front of a region of three zones, for one account.
struct Cloud {
    api: Api,
    caller: Caller,
    model: Arc<RwLock<Model>>,
    random: Mutex<Random>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Cloud {
    fn new() -> Cloud {
        let account = AccountId::from_number(123_456_789_012).unwrap();
        let model = Arc::new(RwLock::new(Model::default()));
        let mut random = Random::from_seed(1);
        let batch = Writes::new();
        let (mut reserved, fleet, identity) = (Reserved::default(), fleet(), identity());
        let mut tx = Tx::new(now(), &mut random, &mut reserved, None, &batch);
        crate::account::account_create(&mut tx, account, "test".into(), String::new());
        let empty = Model::default();
        let scene = Scene { fleet: &fleet, model: &empty, identity: &identity, account };
        crate::vpc::default::network_ensure(&mut tx, &scene).unwrap();
        owner::apply(&mut model.write().unwrap(), account, &tx.into_writes());
        let facts = Facts {
            networks: true,
            region: "us-east-1".parse().unwrap(),
            zones: zones(),
            images: vec![Image {
                id: IMAGE.parse().unwrap(),
                name: "nephos-linux".into(),
                description: "Linux".into(),
                architecture: "x86_64".into(),
                root_device: "/dev/vda".into(),
                created: "2026-01-02T03:04:05Z".into(),
                disk_mib: 1024,
            }],
            endpoint: "127.0.0.1:4566".into(),
            vcpus_per_account: 64,
            cursor_secret: [7; 32],
        };
        let (asker, mut asks) = Asker::new(16);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let cloud = Cloud {
            api: Api::new(facts, model.clone(), asker),
            caller: caller(account),
            model: model.clone(),
            random: Mutex::new(Random::from_seed(2)),
            requests: requests.clone(),
        };
        tokio::spawn(async move {
            let mut random = Random::from_seed(3);
            while let Some(ask) = asks.recv().await {
                match ask {
                    Ask::Change { account, request, answer } => {
                        requests.lock().unwrap().push(request.clone());
                        let _ = answer.send(carry_out(&model, &mut random, account, request));
                    }
                    // The API asks for no fleet; whoever does is told that nobody answers.
                    Ask::Fleet { .. } => {}
                    Ask::Console { instance, answer } => {
                        let data = ConsoleData {
                            instance_id: instance.to_string(),
                            data: b"hello from the guest\n".to_vec(),
                            written_unix_ms: now().unix_ms(),
                            ..ConsoleData::default()
                        };
                        let _ = answer.send(Some(data));
                    }
                }
            }
        });
        cloud
    }

    async fn call(&self, operation: &str, parameters: &str) -> Response {
        let parameters = query::parse(parameters, "").unwrap();
        let call = Call {
            service: "ec2",
            operation: operation.into(),
            version: aws::ec2::SERVICE.version.into(),
            parameters,
        };
        Ec2::dispatch(&self.api, &self.caller, call).await
    }

    /// The body of an answer that must be a success.
    async fn ok(&self, operation: &str, parameters: &str) -> String {
        let response = self.call(operation, parameters).await;
        assert_eq!(response.status, 200, "{operation}?{parameters}: {}", response.body);
        response.body
    }

    /// The answer must be an error with this code; its message.
    async fn refused(&self, operation: &str, parameters: &str, code: &str) -> String {
        let response = self.call(operation, parameters).await;
        let found = response.error_code.as_deref().unwrap_or("none");
        assert_eq!(found, code, "{operation}?{parameters}: {}", response.body);
        one(&response.body, "Message").replace("&quot;", "\"").replace("&apos;", "'")
    }

    /// Puts instances into the model, as one launch.
    fn launched(&self, count: u32, change: impl Fn(&mut InstanceRecord)) -> Vec<InstanceId> {
        let launch = LaunchRequest {
            count_min: count,
            count,
            vcpus: 2,
            memory_mib: 1024,
            template: core::record::TemplateRecord {
                image_id: IMAGE.into(),
                instance_type: "t3.micro".into(),
                ..Default::default()
            },
            zone: None,
            interface: Default::default(),
            client_token: String::new(),
            parameters_sha256: [0; 32],
        };
        let mut random = self.random.lock().unwrap();
        let (_, records) = launch_write(&self.model, &mut random, self.caller.account, &launch, None, change);
        records.iter().map(|record| record.id()).collect()
    }
}

fn now() -> Timestamp {
    Timestamp::from_unix_ms(1_767_323_045_678)
}

fn caller(account: AccountId) -> Caller {
    Caller {
        account,
        access_key_id: "AKIDEXAMPLE".into(),
        principal_arn: format!("arn:aws:iam::{account}:root"),
        principal_id: account.to_string(),
        region: "us-east-1".parse().unwrap(),
        request_id: "req-1".into(),
        source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        user_agent: String::new(),
    }
}

fn launch_write(
    model: &RwLock<Model>,
    random: &mut Random,
    account: AccountId,
    launch: &LaunchRequest,
    interface: Option<LaunchInterfaceRecord>,
    change: impl Fn(&mut InstanceRecord),
) -> (Arc<ReservationRecord>, Vec<Arc<InstanceRecord>>) {
    let id = ReservationId::random(random);
    let reservation = Arc::new(ReservationRecord {
        reservation_id: id.to_string(),
        seed_low: random.u64(),
        count: launch.count,
        count_min: launch.count_min,
        acceptance: Acceptance::Settled as u32,
        accepted_unix_ms: now().unix_ms(),
        template: Some(launch.template.clone()),
        zone: launch.zone.as_ref().map_or("us-east-1a", |zone| zone.as_str()).into(),
        client_token: launch.client_token.clone(),
        interface,
        ..ReservationRecord::default()
    });
    let mut writes = Writes::new();
    let mut records = Vec::new();
    for (index, member) in core::members(&reservation) {
        let mut record = core::member_derive(&reservation, index, member);
        record.stage = Stage::Starting as u32;
        record.host_id = "us-east-1a-c1-h1".into();
        change(&mut record);
        let record = Arc::new(record);
        writes.insert(Name::Instance(member), Some(Record::Instance(record.clone())));
        records.push(record);
    }
    writes.insert(Name::Reservation(id), Some(Record::Reservation(reservation.clone())));
    if !launch.client_token.is_empty() {
        let token = TokenRecord {
            parameters_sha256: launch.parameters_sha256.to_vec(),
            made: id.to_string(),
            used_unix_ms: now().unix_ms(),
        };
        let name = Name::Token(format!("RunInstances/{}", launch.client_token));
        writes.insert(name, Some(Record::Token(Arc::new(token))));
    }
    owner::apply(&mut model.write().unwrap(), account, &writes);
    (reservation, records)
}

/// The addresses of a launch, as its acceptance draws them.
fn interface_draw(
    model: &RwLock<Model>,
    random: &mut Random,
    account: AccountId,
    launch: &LaunchRequest,
) -> Result<LaunchInterfaceRecord, Refusal> {
    let model = model.read().unwrap();
    let (batch, mut reserved) = (Writes::new(), Reserved::default());
    let (fleet, identity) = (fleet(), identity());
    let mut tx = Tx::new(now(), random, &mut reserved, model.account(account), &batch);
    let scene = Scene { fleet: &fleet, model: &model, identity: &identity, account };
    let zone = launch.zone.clone().unwrap_or_else(|| zones()[0].clone());
    interfaces_plan(&mut tx, &scene, &launch.interface, &zone, launch.count)
}

/// What the region's owner does with a request, without cells and store.
fn carry_out(
    model: &RwLock<Model>,
    random: &mut Random,
    account: AccountId,
    request: Request,
) -> Result<Done, Refusal> {
    if let Request::Launch(launch) = &request {
        let interface = interface_draw(model, random, account, launch)?;
        let (reservation, records) = launch_write(model, random, account, launch, Some(interface), |_| {});
        return Ok(Done::Launched(reservation, records));
    }
    let (outcome, writes) = {
        let model = model.read().unwrap();
        let (batch, mut reserved) = (Writes::new(), Reserved::default());
        let (fleet, identity) = (fleet(), identity());
        let mut tx = Tx::new(now(), random, &mut reserved, model.account(account), &batch);
        let scene = Scene { fleet: &fleet, model: &model, identity: &identity, account };
        (execute(&mut tx, &scene, request, Vec::new())?, tx.into_writes())
    };
    owner::apply(&mut model.write().unwrap(), account, &writes);
    match outcome {
        Outcome::Answer(answer) => Ok(answer),
        Outcome::Waits(Wants::Started(changes)) => Ok(Done::States(changes)),
        Outcome::Waits(Wants::Launched(_)) | Outcome::More { .. } => Ok(Done::Done),
    }
}

fn zones() -> Vec<ZoneName> {
    ["us-east-1a", "us-east-1b", "us-east-1c"].map(|zone| zone.parse().unwrap()).to_vec()
}

fn identity() -> Identity {
    Identity {
        name: "us-east-1".parse().unwrap(),
        zones: zones().into_iter().map(|zone| (zone, Vec::new())).collect(),
        vcpus_per_account: 64,
        images: vec![IMAGE.parse().unwrap()],
        pools: Pools::default(),
    }
}

fn fleet() -> Fleet {
    Fleet::new(identity().zones)
}

/// The texts of all elements of this name that hold no others.
fn all(body: &str, element: &str) -> Vec<String> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let parts = body.split(&open).skip(1);
    parts.filter_map(|part| part.split_once(&close)).map(|(text, _)| text.to_owned()).collect()
}

fn one(body: &str, element: &str) -> String {
    all(body, element).into_iter().next().unwrap_or_else(|| panic!("no {element} in {body}"))
}

#[tokio::test]
async fn a_launch_is_answered_with_its_instances() {
    let cloud = Cloud::new();
    let zone = "Placement.AvailabilityZone=us-east-1b";
    let tag = "TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=Name\
               &TagSpecification.1.Tag.1.Value=web";
    let query = format!(
        "ImageId=nephos-linux&InstanceType=t3.micro&MinCount=2&MaxCount=3&{zone}&{tag}&ClientToken=t&UserData=IyEvYmluL3No"
    );
    let body = cloud.ok("RunInstances", &query).await;
    assert_eq!(all(&body, "instanceId").len(), 3);
    assert_eq!(all(&body, "amiLaunchIndex"), ["0", "1", "2"]);
    assert_eq!(one(&body, "imageId"), IMAGE);
    assert!(body.contains("<instanceState><code>0</code><name>pending</name></instanceState>"), "{body}");
    assert!(body.contains("<availabilityZone>us-east-1b</availabilityZone>"), "{body}");
    assert!(body.contains("<item><key>Name</key><value>web</value></item>"), "{body}");
    let addresses = all(&body, "privateIpAddress");
    assert!(addresses.iter().all(|address| address.starts_with("172.31.")), "{addresses:?}");
    assert_eq!(all(&body, "networkInterfaceId").len(), 3);
    let requests = cloud.requests.lock().unwrap();
    let [Request::Launch(launch)] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!((launch.count_min, launch.count, launch.vcpus), (2, 3, 2));
    assert_eq!(launch.template.user_data, b"#!/bin/sh");
}

#[tokio::test]
async fn a_token_covers_all_parameters_and_outlives_what_they_name() {
    let cloud = Cloud::new();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICOyce/MH7t6lvg8XFpeUC26Z/q1XcJOl68lLyXQQoRW x";
    let material =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key).replace('+', "%2B");
    cloud.ok("ImportKeyPair", &format!("KeyName=web&PublicKeyMaterial={material}")).await;
    let query = format!("ImageId={IMAGE}&InstanceType=t3.micro&MinCount=1&MaxCount=1&KeyName=web");
    let first = cloud.ok("RunInstances", &format!("{query}&ClientToken=a")).await;
    cloud.ok("RunInstances", &format!("{query}&ClientToken=b")).await;
    cloud.ok("RunInstances", &format!("{query}&ClientToken=c&DisableApiTermination=true")).await;
    let hashes: Vec<[u8; 32]> = {
        let requests = cloud.requests.lock().unwrap();
        let hash = |request: &Request| match request {
            Request::Launch(launch) => Some(launch.parameters_sha256),
            _ => None,
        };
        requests.iter().filter_map(hash).collect()
    };
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], hashes[2]);
    // The key pair goes; a retry of the first launch still gets its answer, a new one does not.
    cloud.ok("DeleteKeyPair", "KeyName=web").await;
    let again = cloud.ok("RunInstances", &format!("{query}&ClientToken=a")).await;
    assert_eq!(one(&again, "instanceId"), one(&first, "instanceId"));
    cloud.refused("RunInstances", &format!("{query}&ClientToken=d"), "InvalidKeyPair.NotFound").await;
    let other = format!("{query}&ClientToken=a&DisableApiTermination=true");
    cloud.refused("RunInstances", &other, "InvalidKeyPair.NotFound").await;
}

#[tokio::test]
async fn a_launch_that_cannot_be_is_refused_for_its_reason() {
    let cloud = Cloud::new();
    let subnet = one(&cloud.ok("DescribeSubnets", "").await, "subnetId");
    let group = one(&cloud.ok("DescribeSecurityGroups", "").await, "groupId");
    let fine = |more: &str| format!("ImageId={IMAGE}&InstanceType=t3.micro&MinCount=1&MaxCount=1&{more}");
    cloud.ok("RunInstances", &fine(&format!("SubnetId={subnet}&SecurityGroupId.1={group}"))).await;
    cloud.ok("RunInstances", &fine("SecurityGroup.1=default&Placement.Tenancy=default")).await;
    let cases = [
        ("ImageId=ami-1&InstanceType=t3.micro&MinCount=1&MaxCount=1".to_owned(), "InvalidAMIID.Malformed"),
        (
            "ImageId=ami-0123456789abcdef0&InstanceType=t3.micro&MinCount=1&MaxCount=1".to_owned(),
            "InvalidAMIID.NotFound",
        ),
        (format!("ImageId={IMAGE}&MinCount=1&MaxCount=1"), "MissingParameter"),
        (format!("ImageId={IMAGE}&InstanceType=t3.micro&MaxCount=1"), "MissingParameter"),
        (format!("ImageId={IMAGE}&InstanceType=t9.huge&MinCount=1&MaxCount=1"), "InvalidParameterValue"),
        (format!("ImageId={IMAGE}&InstanceType=t3.micro&MinCount=2&MaxCount=1"), "InvalidParameterValue"),
        (format!("ImageId={IMAGE}&InstanceType=t3.micro&MinCount=0&MaxCount=1"), "InvalidParameterValue"),
        (format!("ImageId={IMAGE}&InstanceType=t3.micro&MinCount=1&MaxCount=1001"), "InvalidParameterValue"),
        (fine("KeyName=nope"), "InvalidKeyPair.NotFound"),
        (fine("Placement.AvailabilityZone=mars-1a"), "InvalidParameterValue"),
        (fine("Placement.Tenancy=dedicated"), "UnsupportedOperation"),
        (fine("SubnetId=subnet-0123456789abcdef0"), "InvalidSubnetID.NotFound"),
        (fine(&format!("SubnetId={subnet}&Placement.AvailabilityZone=us-east-1b")), "InvalidParameterValue"),
        (fine("SecurityGroupId.1=sg-0123456789abcdef0"), "InvalidGroup.NotFound"),
        (fine("SecurityGroupId.1=default"), "InvalidGroupId.Malformed"),
        (fine(&format!("ClientToken={}", "x".repeat(65))), "InvalidParameterValue"),
        (fine("InstanceInitiatedShutdownBehavior=sleep"), "InvalidParameterValue"),
        (fine(&format!("UserData={}", "AAAA".repeat(5462))), "InvalidParameterValue"),
        (
            fine("TagSpecification.1.ResourceType=volume&TagSpecification.1.Tag.1.Key=a"),
            "UnsupportedOperation",
        ),
        (fine("TagSpecification.1.ResourceType=vpc&TagSpecification.1.Tag.1.Key=a"), "InvalidParameterValue"),
        (
            fine("TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=aws:a"),
            "InvalidParameterValue",
        ),
        (fine("DryRun=true"), "DryRunOperation"),
        (fine("KeyName=nope&DryRun=true"), "InvalidKeyPair.NotFound"),
    ];
    let before = cloud.requests.lock().unwrap().len();
    for (query, code) in cases {
        cloud.refused("RunInstances", &query, code).await;
    }
    let query = fine("Placement.AvailabilityZone=x");
    let message = cloud.refused("RunInstances", &query, "InvalidParameterValue").await;
    assert!(message.ends_with("us-east-1a, us-east-1b, us-east-1c"));
    assert_eq!(cloud.requests.lock().unwrap().len(), before, "the owner was never asked");
}

#[tokio::test]
async fn instances_are_found_by_id_and_filter() {
    let cloud = Cloud::new();
    let named = |name: &str| {
        let tag = crate::tag::record::TagRecord { key: "Name".into(), value: name.into() };
        move |record: &mut InstanceRecord| {
            record.stage = Stage::Running as u32;
            record.template.as_mut().unwrap().tags = vec![tag.clone()];
        }
    };
    let web = cloud.launched(2, named("web-1"));
    let stopped = cloud.launched(1, |record| {
        record.move_to(Stage::Stopped, now(), "Client.UserInitiatedShutdown", "User initiated shutdown");
    });
    let body = cloud.ok("DescribeInstances", "").await;
    assert_eq!(all(&body, "reservationId").len(), 2);
    assert_eq!(all(&body, "instanceId").len(), 3);
    let body = cloud.ok("DescribeInstances", &format!("InstanceId.1={}", stopped[0])).await;
    assert_eq!(all(&body, "instanceId"), [stopped[0].to_string()]);
    assert_eq!(one(&body, "reason"), "User initiated (2026-01-02 03:04:05 GMT)");
    let cases = [
        ("Filter.1.Name=tag:Name&Filter.1.Value.1=web-*", 2),
        ("Filter.1.Name=tag:Name&Filter.1.Value.1=Web-*", 0),
        ("Filter.1.Name=tag-key&Filter.1.Value.1=Name", 2),
        ("Filter.1.Name=instance-state-name&Filter.1.Value.1=stopped&Filter.1.Value.2=running", 3),
        (
            "Filter.1.Name=instance-state-name&Filter.1.Value.1=stopped&Filter.2.Name=tag-key\
             &Filter.2.Value.1=Name",
            0,
        ),
        ("Filter.1.Name=instance-state-code&Filter.1.Value.1=16", 2),
        ("Filter.1.Name=state-reason-code&Filter.1.Value.1=Client.*", 1),
        ("Filter.1.Name=vpc-id&Filter.1.Value.1=*", 0),
        ("Filter.1.Name=owner-id&Filter.1.Value.1=123456789012", 3),
    ];
    for (query, count) in cases {
        assert_eq!(all(&cloud.ok("DescribeInstances", query).await, "instanceId").len(), count, "{query}");
    }
    let message = cloud.refused(
        "DescribeInstances",
        "Filter.1.Name=colour&Filter.1.Value.1=red",
        "InvalidParameterValue",
    );
    assert_eq!(message.await, "The filter 'colour' is invalid");
    let query = "InstanceId.1=i-0123456789abcdef0&InstanceId.2=i-0123456789abcdef1";
    let message = cloud.refused("DescribeInstances", query, "InvalidInstanceID.NotFound").await;
    assert_eq!(message, "The instance IDs 'i-0123456789abcdef0, i-0123456789abcdef1' do not exist");
    let message = cloud.refused("DescribeInstances", "InstanceId.1=x", "InvalidInstanceID.Malformed").await;
    assert_eq!(message, "Invalid id: \"x\" (expecting \"i-...\")");
    let query = format!("InstanceId.1={}&MaxResults=5", web[0]);
    cloud.refused("DescribeInstances", &query, "InvalidParameterCombination").await;

    let body = cloud.ok("DescribeInstanceStatus", "").await;
    assert_eq!(all(&body, "instanceId").len(), 2);
    assert!(body.contains("<instanceStatus><status>ok</status>"), "{body}");
    let body = cloud.ok("DescribeInstanceStatus", "IncludeAllInstances=true").await;
    assert_eq!(all(&body, "instanceId").len(), 3);
    assert!(body.contains("<status>not-applicable</status>"), "{body}");
}

#[tokio::test]
async fn pages_lose_and_repeat_nothing_while_instances_come() {
    let cloud = Cloud::new();
    let mut known: Vec<String> = Vec::new();
    for _ in 0..4 {
        known.extend(cloud.launched(4, |_| {}).iter().map(ToString::to_string));
    }
    let mut seen = Vec::new();
    let mut query = "MaxResults=5".to_owned();
    loop {
        let body = cloud.ok("DescribeInstances", &query).await;
        seen.extend(all(&body, "instanceId"));
        cloud.launched(1, |_| {});
        match all(&body, "nextToken").first() {
            Some(token) => query = format!("MaxResults=5&NextToken={token}"),
            None => break,
        }
    }
    for id in &known {
        assert_eq!(seen.iter().filter(|one| *one == id).count(), 1, "{id}");
    }
}

#[tokio::test]
async fn a_cursor_is_good_for_its_own_request_only() {
    let cloud = Cloud::new();
    cloud.launched(12, |_| {});
    let token = one(&cloud.ok("DescribeInstances", "MaxResults=5").await, "nextToken");
    cloud.ok("DescribeInstances", &format!("MaxResults=7&NextToken={token}")).await;
    let elsewhere = ["Filter.1.Name=tag-key&Filter.1.Value.1=x", "Filter.1.Name=owner-id&Filter.1.Value.1=1"];
    for more in elsewhere {
        let query = format!("NextToken={token}&{more}");
        cloud.refused("DescribeInstances", &query, "InvalidNextToken").await;
    }
    cloud.refused("DescribeInstanceStatus", &format!("NextToken={token}"), "InvalidNextToken").await;
    for (index, _) in token.char_indices() {
        let mut bytes = token.clone().into_bytes();
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        let query = format!("NextToken={}", String::from_utf8(bytes).unwrap());
        cloud.refused("DescribeInstances", &query, "InvalidNextToken").await;
    }
    for (bounds, code) in [("4", "InvalidParameterValue"), ("1001", "InvalidParameterValue")] {
        cloud.refused("DescribeInstances", &format!("MaxResults={bounds}"), code).await;
    }
    let mut stranger = cloud.caller.clone();
    stranger.account = AccountId::from_number(999_999_999_999).unwrap();
    let account = Writes::from([(
        Name::Account,
        Some(Record::Account(Arc::new(crate::account::record::AccountRecord::default()))),
    )]);
    owner::apply(&mut cloud.model.write().unwrap(), stranger.account, &account);
    let stranger = Cloud { caller: stranger, ..cloud };
    stranger.refused("DescribeInstances", &format!("NextToken={token}"), "InvalidNextToken").await;
}

#[tokio::test]
async fn life_goes_through_its_states() {
    let cloud = Cloud::new();
    let running = cloud.launched(1, |record| record.stage = Stage::Running as u32)[0];
    let query = format!("InstanceId.1={running}");
    assert!(cloud.ok("RebootInstances", &query).await.contains("<return>true</return>"));
    let body = cloud.ok("StopInstances", &query).await;
    assert!(body.contains("<currentState><code>64</code><name>stopping</name></currentState>"), "{body}");
    assert!(body.contains("<previousState><code>16</code><name>running</name></previousState>"), "{body}");
    cloud.refused("StartInstances", &query, "IncorrectInstanceState").await;
    cloud.refused("RebootInstances", &query, "IncorrectInstanceState").await;
    cloud.refused("StopInstances", &format!("{query}&Hibernate=true"), "UnsupportedOperation").await;
    let body = cloud.ok("TerminateInstances", &query).await;
    assert!(body.contains("<name>shutting-down</name>"), "{body}");
    cloud.refused("TerminateInstances", "InstanceId.1=i-12345678", "InvalidInstanceID.NotFound").await;
    cloud.refused("TerminateInstances", "", "MissingParameter").await;
    let many: Vec<String> = (1..=101).map(|n| format!("InstanceId.{n}=i-{n:017x}")).collect();
    cloud.refused("TerminateInstances", &many.join("&"), "InvalidInstanceID.NotFound").await;
}

#[tokio::test]
async fn attributes_are_read_and_changed_one_at_a_time() {
    let cloud = Cloud::new();
    let id = cloud.launched(1, |record| record.stage = Stage::Stopped as u32)[0];
    let read = async |attribute: &str| {
        let query = format!("InstanceId={id}&Attribute={attribute}");
        cloud.ok("DescribeInstanceAttribute", &query).await
    };
    let modify = |more: &str| format!("InstanceId={id}&{more}");
    let value = "<value>stop</value>";
    assert!(read("instanceInitiatedShutdownBehavior").await.contains(value));
    assert!(read("disableApiTermination").await.contains("<value>false</value>"));
    assert!(!read("userData").await.contains("<value>"));
    for attribute in ["instanceType", "rootDeviceName", "blockDeviceMapping", "ebsOptimized", "kernel"] {
        read(attribute).await;
    }
    let changes = [
        ("InstanceType.Value=t3.small", "instanceType", "t3.small"),
        ("Attribute=instanceType&Value=t3.nano", "instanceType", "t3.nano"),
        ("UserData.Value=aGVsbG8=", "userData", "aGVsbG8="),
        ("Attribute=userData&Value=d29ybGQ=", "userData", "d29ybGQ="),
        ("DisableApiTermination.Value=true", "disableApiTermination", "true"),
        ("Attribute=disableApiTermination&Value=false", "disableApiTermination", "false"),
        ("DisableApiStop.Value=true", "disableApiStop", "true"),
        (
            "InstanceInitiatedShutdownBehavior.Value=terminate",
            "instanceInitiatedShutdownBehavior",
            "terminate",
        ),
    ];
    for (change, attribute, value) in changes {
        cloud.ok("ModifyInstanceAttribute", &modify(change)).await;
        assert_eq!(one(&read(attribute).await, "value"), value, "{change}");
    }
    // Stop protection keeps it from being terminated too.
    cloud.refused("TerminateInstances", &format!("InstanceId.1={id}"), "OperationNotPermitted").await;
    let refused = [
        ("", "InvalidParameterCombination"),
        ("DisableApiStop.Value=true&InstanceType.Value=t3.nano", "InvalidParameterCombination"),
        ("InstanceType.Value=t9.huge", "InvalidParameterValue"),
        ("Attribute=instanceType", "MissingParameter"),
        ("Attribute=colour&Value=red", "InvalidParameterValue"),
        ("Attribute=sourceDestCheck&Value=false", "UnsupportedOperation"),
        ("SourceDestCheck.Value=false", "UnsupportedOperation"),
        ("DisableApiStop.Value=true&DryRun=true", "DryRunOperation"),
    ];
    for (change, code) in refused {
        cloud.refused("ModifyInstanceAttribute", &modify(change), code).await;
    }
    let query = format!("InstanceId={id}&Attribute=sourceDestCheck");
    cloud.refused("DescribeInstanceAttribute", &query, "UnsupportedOperation").await;
    let running = cloud.launched(1, |record| record.stage = Stage::Running as u32)[0];
    let query = format!("InstanceId={running}&InstanceType.Value=t3.nano");
    let message = cloud.refused("ModifyInstanceAttribute", &query, "IncorrectInstanceState").await;
    assert_eq!(message, format!("The instance '{running}' is not in the 'stopped' state."));
}

#[tokio::test]
async fn the_console_is_its_host_s() {
    let cloud = Cloud::new();
    let id = cloud.launched(1, |record| record.stage = Stage::Running as u32)[0];
    let body = cloud.ok("GetConsoleOutput", &format!("InstanceId={id}")).await;
    assert_eq!(one(&body, "output"), "aGVsbG8gZnJvbSB0aGUgZ3Vlc3QK");
    assert_eq!(one(&body, "timestamp"), "2026-01-02T03:04:05.678Z");
    let gone = cloud.launched(1, |record| record.stage = Stage::Terminated as u32)[0];
    let body = cloud.ok("GetConsoleOutput", &format!("InstanceId={gone}")).await;
    assert!(!body.contains("<output>"), "{body}");
    let query = "InstanceId=i-0123456789abcdef0";
    cloud.refused("GetConsoleOutput", query, "InvalidInstanceID.NotFound").await;
}

#[tokio::test]
async fn tags_go_on_everything_or_on_nothing() {
    let cloud = Cloud::new();
    let id = cloud.launched(1, |_| {})[0];
    let vpc = one(&cloud.ok("DescribeVpcs", "").await, "vpcId");
    let both = format!("ResourceId.1={id}&ResourceId.2={vpc}");
    cloud.ok("CreateTags", &format!("{both}&Tag.1.Key=team&Tag.1.Value=a&Tag.2.Key=empty")).await;
    let body = cloud.ok("DescribeTags", "").await;
    assert_eq!(all(&body, "key"), ["empty", "team", "empty", "team"]);
    assert_eq!(all(&body, "resourceType"), ["instance", "instance", "vpc", "vpc"]);
    for (filter, count) in [
        ("resource-type&Filter.1.Value.1=vpc", 2),
        ("resource-id&Filter.1.Value.1=i-*", 2),
        ("key&Filter.1.Value.1=team", 2),
        ("value&Filter.1.Value.1=a", 2),
        ("tag:team&Filter.1.Value.1=a", 2),
        ("tag:team&Filter.1.Value.1=b", 0),
    ] {
        let body = cloud.ok("DescribeTags", &format!("Filter.1.Name={filter}")).await;
        assert_eq!(all(&body, "key").len(), count, "{filter}");
    }
    let body = cloud.ok("DescribeVpcs", "Filter.1.Name=tag:team&Filter.1.Value.1=a").await;
    assert!(body.contains("<key>team</key><value>a</value>"), "{body}");
    // One of the two does not exist: nothing changes.
    let half = format!("ResourceId.1={id}&ResourceId.2=subnet-0123456789abcdef0&Tag.1.Key=x&Tag.1.Value=y");
    cloud.refused("CreateTags", &half, "InvalidSubnetID.NotFound").await;
    assert_eq!(all(&cloud.ok("DescribeTags", "").await, "key").len(), 4);
    for (tag, code) in [
        ("Tag.1.Key=aws:x", "InvalidParameterValue"),
        ("Tag.1.Key=", "InvalidParameterValue"),
        ("Tag.1.Key=a&Tag.1.Value=1&Tag.2.Key=a&Tag.2.Value=2", "InvalidParameterValue"),
        (&format!("Tag.1.Key={}", "k".repeat(129)), "InvalidParameterValue"),
        (&format!("Tag.1.Key=k&Tag.1.Value={}", "v".repeat(257)), "InvalidParameterValue"),
        ("", "MissingParameter"),
    ] {
        cloud.refused("CreateTags", &format!("ResourceId.1={id}&{tag}"), code).await;
    }
    let tags: Vec<String> = (1..=49).map(|n| format!("Tag.{n}.Key=k{n}")).collect();
    let query = format!("ResourceId.1={id}&{}", tags.join("&"));
    cloud.refused("CreateTags", &query, "TagLimitExceeded").await;
    cloud.refused("CreateTags", "ResourceId.1=what&Tag.1.Key=a", "InvalidID").await;
    cloud.ok("DeleteTags", &format!("{both}&Tag.1.Key=team&Tag.1.Value=other")).await;
    assert_eq!(all(&cloud.ok("DescribeTags", "").await, "key").len(), 4);
    cloud.ok("DeleteTags", &format!("{both}&Tag.1.Key=team")).await;
    assert_eq!(all(&cloud.ok("DescribeTags", "").await, "key"), ["empty", "empty"]);
    cloud.ok("DeleteTags", &both).await;
    assert!(all(&cloud.ok("DescribeTags", "").await, "key").is_empty());
}

#[tokio::test]
async fn key_pairs_are_made_imported_and_removed() {
    let cloud = Cloud::new();
    let body = cloud.ok("CreateKeyPair", "KeyName=web&KeyType=ed25519").await;
    assert!(one(&body, "keyMaterial").starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
    let id = one(&body, "keyPairId");
    let body = cloud.ok("CreateKeyPair", "KeyName=old").await;
    assert!(one(&body, "keyMaterial").starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    cloud.refused("CreateKeyPair", "KeyName=web", "InvalidKeyPair.Duplicate").await;
    cloud.refused("CreateKeyPair", "KeyName=x&KeyFormat=ppk", "UnsupportedOperation").await;
    cloud.refused("CreateKeyPair", "KeyName=x&KeyType=dsa", "InvalidParameterValue").await;
    cloud.refused("CreateKeyPair", "KeyName=a%0Ab", "InvalidParameterValue").await;
    cloud.refused("ImportKeyPair", "KeyName=x&PublicKeyMaterial=aGVsbG8=", "InvalidKey.Format").await;
    let body = cloud.ok("DescribeKeyPairs", "KeyName.1=web&IncludePublicKey=true").await;
    assert_eq!(all(&body, "keyPairId"), std::slice::from_ref(&id));
    assert!(one(&body, "publicKey").starts_with("ssh-ed25519 "), "{body}");
    assert_eq!(one(&body, "keyType"), "ed25519");
    assert_eq!(all(&cloud.ok("DescribeKeyPairs", "").await, "keyName").len(), 2);
    cloud.refused("DescribeKeyPairs", "KeyName.1=nope", "InvalidKeyPair.NotFound").await;
    let body = cloud.ok("DeleteKeyPair", "KeyName=web").await;
    assert!(body.contains("<return>true</return>"), "{body}");
    assert_eq!(one(&body, "keyPairId"), id);
    let body = cloud.ok("DeleteKeyPair", "KeyName=web").await;
    assert!(body.contains("<return>true</return>") && !body.contains("keyPairId"), "{body}");
    cloud.refused("DeleteKeyPair", "", "MissingParameter").await;
}

#[tokio::test]
async fn what_is_fixed_is_told() {
    let cloud = Cloud::new();
    let body = cloud.ok("DescribeRegions", "RegionName.1=us-east-1").await;
    assert_eq!(one(&body, "regionEndpoint"), "127.0.0.1:4566");
    cloud.refused("DescribeRegions", "RegionName.1=mars-1", "InvalidParameterValue").await;
    let body = cloud.ok("DescribeAvailabilityZones", "").await;
    assert_eq!(all(&body, "zoneId"), ["use1-az1", "use1-az2", "use1-az3"]);
    let body = cloud.ok("DescribeAvailabilityZones", "ZoneId.1=use1-az2").await;
    assert_eq!(all(&body, "zoneName"), ["us-east-1b"]);
    let body = cloud.ok("DescribeInstanceTypes", "InstanceType.1=t3.micro").await;
    assert_eq!(one(&body, "sizeInMiB"), "1024");
    assert_eq!(one(&body, "defaultVCpus"), "2");
    cloud.refused("DescribeInstanceTypes", "InstanceType.1=t9.huge", "InvalidInstanceType").await;
    let body = cloud.ok("DescribeInstanceTypes", "MaxResults=5").await;
    assert_eq!(all(&body, "instanceType").len(), 5);
    let query = "LocationType=availability-zone&Filter.1.Name=instance-type&Filter.1.Value.1=t3.micro";
    let body = cloud.ok("DescribeInstanceTypeOfferings", query).await;
    assert_eq!(all(&body, "location"), ["us-east-1a", "us-east-1b", "us-east-1c"]);
    for (query, count) in [
        ("", 1),
        ("Owner.1=amazon", 1),
        ("Owner.1=self", 0),
        ("Filter.1.Name=name&Filter.1.Value.1=nephos-*", 1),
    ] {
        assert_eq!(all(&cloud.ok("DescribeImages", query).await, "imageId").len(), count, "{query}");
    }
    cloud.refused("DescribeImages", "ImageId.1=ami-0123456789abcdef0", "InvalidAMIID.NotFound").await;
    let body = cloud.ok("DescribeSubnets", "").await;
    assert_eq!(all(&body, "subnetId").len(), 3);
    let body =
        cloud.ok("DescribeSubnets", "Filter.1.Name=availability-zone&Filter.1.Value.1=us-east-1c").await;
    assert_eq!(one(&body, "cidrBlock"), "172.31.32.0/20");
    let body = cloud.ok("DescribeSecurityGroups", "GroupName.1=default").await;
    assert_eq!(one(&body, "groupName"), "default");
    let vpc = one(&cloud.ok("DescribeVpcs", "").await, "vpcId");
    let query = format!("VpcId={vpc}&Attribute=enableDnsSupport");
    assert!(cloud.ok("DescribeVpcAttribute", &query).await.contains("<value>true</value>"));
    cloud.refused("DescribeVpcs", "VpcId.1=vpc-0123456789abcdef0", "InvalidVpcID.NotFound").await;
    let body = cloud.ok("DescribeAccountAttributes", "AttributeName.1=default-vpc").await;
    assert_eq!(all(&body, "attributeValue"), [vpc]);
}

#[tokio::test]
async fn the_caller_and_the_quota_are_told() {
    let cloud = Cloud::new();
    let identity = Sts::get_caller_identity(&cloud.api, &cloud.caller, GetCallerIdentityRequest {});
    assert_eq!(identity.await.unwrap().arn, "arn:aws:iam::123456789012:root");
    let quota = async |operation: &str, parameters: &[(&str, &str)]| {
        let parameters =
            parameters.iter().map(|(key, value)| ((*key).to_owned(), Node::Text((*value).to_owned())));
        let call = Call {
            service: "servicequotas",
            operation: operation.into(),
            version: aws::service_quotas::SERVICE.version.into(),
            parameters: Node::Map(BTreeMap::from_iter(parameters)),
        };
        ServiceQuotas::dispatch(&cloud.api, &cloud.caller, call).await
    };
    let known = [("ServiceCode", "ec2"), ("QuotaCode", "L-1216C47A")];
    let response = quota("GetServiceQuota", &known).await;
    assert!(response.body.contains("\"Value\":64.0"), "{}", response.body);
    let response = quota("ListServiceQuotas", &[("ServiceCode", "ec2")]).await;
    assert!(response.body.contains("ec2/L-1216C47A"), "{}", response.body);
    let response = quota("GetServiceQuota", &[("ServiceCode", "ec2"), ("QuotaCode", "L-0")]).await;
    assert_eq!(response.error_code.as_deref(), Some("NoSuchResourceException"));
    let response = quota("ListServiceQuotas", &[("ServiceCode", "ec2"), ("NextToken", "x")]).await;
    assert_eq!(response.error_code.as_deref(), Some("InvalidPaginationTokenException"));
}

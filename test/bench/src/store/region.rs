//! A region with a million records: from the start of its process to its first acknowledged write.

use crate::Place;
use crate::client::{Keys, Question};
use crate::cloud::{Cloud, directory};
use crate::report::{Case, RUNS, progress};
use anyhow::{Context, Result, bail};
use base::ids::{AccountId, KeyPairId};
use metastore::{Commit, Op, Store};
use region::account::record::AccountRecord;
use region::key_pair::record::KeyPairRecord;
use region::record::{Name, Record};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ACCOUNTS: u64 = 1_000;
const KEY_PAIRS: u64 = 999;
const WRITTEN_BY: Duration = Duration::from_secs(120);
/// The region's process, as `nephos kill` and `start` call it.
const ROLE: &str = "region";
const OPTIONS: [&str; 6] = ["--zones", "1", "--hosts-per-zone", "1", "--vmm", "simulated"];

/// Measures starts of the process alone: the cloud around it goes on.
pub fn measure(place: &Place) -> Result<Vec<Case>> {
    let directory = directory()?;
    Cloud::ready(place, directory.path(), &OPTIONS)?.down()?;
    progress("writing a million records");
    fill(&directory.path().join("cloud/region/store"))?;
    let cloud = Cloud::ready(place, directory.path(), &OPTIONS)?;
    let vpc = cloud.client().ask(&Question::ec2("DescribeVpcs", ""))?;
    let vpc = vpc.element("vpcId").context("there is no VPC")?.to_owned();
    let mut times = Vec::new();
    for run in 1..=RUNS {
        cloud.command(&["kill", ROLE])?;
        let began = Instant::now();
        cloud.command(&["start", ROLE])?;
        write_wait(&cloud, &vpc, run, began)?;
        times.push(began.elapsed().as_secs_f64());
        progress(&format!("run {run} of {RUNS}: {:.2} s", times[run - 1]));
    }
    cloud.down()?;
    Ok(vec![Case::alone("region with 1,000,000 records, start to first write", "s", &times)])
}

fn write_wait(cloud: &Cloud, vpc: &str, run: usize, began: Instant) -> Result<()> {
    let tag = Question::ec2("CreateTags", &format!("&ResourceId.1={vpc}&Tag.1.Key=run&Tag.1.Value={run}"));
    while !cloud.client().send(&tag).is_ok_and(|reply| reply.status == 200) {
        if began.elapsed() > WRITTEN_BY {
            bail!("the region has not written after {} s", WRITTEN_BY.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Accounts with key pairs, put into the store of a region that is down.
fn fill(store: &Path) -> Result<()> {
    let runtime = super::runtime()?;
    let store = Store::open(store)?;
    for number in 0..ACCOUNTS {
        let account = AccountId::from_number(900_000_000_000 + number).context("not an account's number")?;
        let commits = runtime.block_on(async {
            let records: Vec<Op> = account_records(account, number).collect();
            for ops in records.chunks(Commit::OPS_MAX) {
                store.commit(Commit { conditions: Vec::new(), ops: ops.to_vec() }).await?;
            }
            Ok::<_, metastore::CommitError>(())
        });
        commits?;
    }
    Ok(())
}

fn account_records(account: AccountId, number: u64) -> impl Iterator<Item = Op> {
    let Keys { access_key_id, secret_access_key } =
        Keys { access_key_id: format!("AKIABENCH{number:011}"), secret_access_key: "a".repeat(40) };
    let record = AccountRecord {
        account_id: account.to_string(),
        name: format!("bench-{number}"),
        client_token: String::new(),
        access_key_id,
        secret_access_key,
        created_unix_ms: 0,
        network_made: false,
    };
    let own = Op::Put(Name::Account.key(account), Record::Account(Arc::new(record)).encode());
    let key_pairs = (0..KEY_PAIRS).map(move |index| {
        let id = KeyPairId::from_bits(u128::from(number * KEY_PAIRS + index) as _);
        let record = KeyPairRecord {
            key_pair_id: id.to_string(),
            key_name: format!("key-{index}"),
            key_type: "ed25519".into(),
            fingerprint: "SHA256:".to_owned() + &"a".repeat(43),
            public_key: format!("ssh-ed25519 {}", "A".repeat(68)),
            created_unix_ms: 0,
            tags: Vec::new(),
        };
        Op::Put(Name::KeyPair(id).key(account), Record::KeyPair(Arc::new(record)).encode())
    });
    std::iter::once(own).chain(key_pairs)
}

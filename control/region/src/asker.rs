//! The way from an asynchronous caller (the API, the operator's service) to the region's owner and back.

use crate::fleet::Fleet;
use crate::refusal::Refusal;
use crate::request::{Answer, Request};
use base::ids::{AccountId, InstanceId};
use contract::ConsoleData;
use tokio::sync::{mpsc, oneshot};

/// What a caller hands to the owner's loop (`serve.rs`).
#[derive(Debug)]
pub enum Ask {
    /// A change.
    Change {
        /// Whose.
        account: AccountId,
        /// What.
        request: Request,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<Answer, Refusal>>,
    },
    /// An instance's console.
    Console {
        /// Which.
        instance: InstanceId,
        /// Where the answer goes; `None`: its host does not answer.
        answer: oneshot::Sender<Option<ConsoleData>>,
    },
    /// What the region sees of its fleet.
    Fleet {
        /// Where the answer goes.
        answer: oneshot::Sender<Fleet>,
    },
}

/// Asks the region's owner. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Asker {
    asks: mpsc::Sender<Ask>,
}

impl Asker {
    /// An asker, and where its asks come out. `waiting_max` asks may wait; more are refused as busy.
    pub fn new(waiting_max: usize) -> (Asker, mpsc::Receiver<Ask>) {
        let (asks, receiver) = mpsc::channel(waiting_max);
        (Asker { asks }, receiver)
    }

    /// Asks for a change, and waits until what became of it is durable.
    pub async fn change(&self, account: AccountId, request: Request) -> Result<Answer, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(Ask::Change { account, request, answer }).map_err(|_| Refusal::Busy)?;
        answered.await.unwrap_or_else(|_| Err(Refusal::StoreFailed("the region is stopping".into())))
    }

    /// Reads an instance's console; `None` if its host does not answer in time.
    pub async fn console(&self, instance: InstanceId) -> Option<ConsoleData> {
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(Ask::Console { instance, answer }).ok()?;
        answered.await.ok().flatten()
    }

    /// The region's zones and cells as it sees them; `None` if the region is stopping or too busy.
    pub async fn fleet(&self) -> Option<Fleet> {
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(Ask::Fleet { answer }).ok()?;
        answered.await.ok()
    }
}

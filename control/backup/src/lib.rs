//! The operator's way to a backup of a role's store: the role's process owns its store's directory, so the backup is
//! taken in that process and streamed to whoever asks with an operator's certificate. Region and cell add this service
//! to the server that they have.
//!
//! Deliberately absent: restoring. That is done to the store's directory while the role is down, by
//! `metastore::restore`.
//!
//! Invariant: a caller that reads slowly holds up nothing but its own backup, which then ends with an error.

use contract::backup_server::{Backup, BackupServer};
use contract::trust::{Role, peer};
use contract::{BackupPiece, BackupTakeRequest};
use metastore::{BackupError, Store, WeakStore};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Pieces that wait for the caller.
const PIECES_WAITING: usize = 4;

/// The service of a store. A connection may outlive its role's owner, and must not keep the store open.
#[derive(Clone, Debug)]
pub struct BackupService(WeakStore);

/// The service that a role's server adds for its store.
pub fn service(store: &Store) -> BackupServer<BackupService> {
    BackupServer::new(BackupService(store.downgrade()))
}

#[tonic::async_trait]
impl Backup for BackupService {
    type TakeStream = ReceiverStream<Result<BackupPiece, Status>>;

    async fn take(&self, request: Request<BackupTakeRequest>) -> Result<Response<Self::TakeStream>, Status> {
        peer(&request)?.allow(Role::Operator)?;
        let store = self.0.upgrade().ok_or_else(|| Status::unavailable("the role is stopping"))?;
        let backup = store.backup().map_err(|error| status(&error))?;
        let (pieces, waiting) = mpsc::channel(PIECES_WAITING);
        tokio::spawn(stream(backup, pieces));
        Ok(Response::new(ReceiverStream::new(waiting)))
    }
}

/// Gives the caller every piece, or the reason why there are no more.
async fn stream(mut backup: metastore::Backup, pieces: mpsc::Sender<Result<BackupPiece, Status>>) {
    let (revision, bytes_expected) = (backup.revision().0, backup.bytes_expected());
    loop {
        // A piece is about a millisecond of copying.
        let piece = match backup.next_piece() {
            Ok(Some(bytes)) => Ok(BackupPiece { bytes, bytes_expected }),
            Ok(None) => {
                tracing::info!(revision, "a backup was taken");
                return;
            }
            Err(error) => Err(status(&error)),
        };
        let ended = piece.is_err();
        if pieces.send(piece).await.is_err() || ended {
            tracing::warn!(revision, "a backup was not taken to its end");
            return;
        }
    }
}

fn status(error: &BackupError) -> Status {
    match error {
        BackupError::Overtaken => Status::aborted(error.to_string()),
        BackupError::Unsupported(_) => Status::unimplemented(error.to_string()),
        BackupError::Failed(_) => Status::unavailable(error.to_string()),
    }
}

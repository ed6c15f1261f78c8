//! Who calls, and which keys are theirs.

use contract::trust::{self, Identity, Role};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use tonic::{Request, Status};

/// Certificates that are remembered: those of a large region's processes, through several renewals.
const CALLERS_MAX: usize = 1_024;

/// A caller that may use the store.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    identity: Identity,
    /// What all of its keys begin with: `cell/us-east-1a-c1/`.
    namespace: Vec<u8>,
    /// The first key after them.
    end: Vec<u8>,
}

impl Caller {
    fn new(identity: Identity) -> Caller {
        let namespace = format!("{identity}/").into_bytes();
        let mut end = namespace.clone();
        // A slash is not the last byte there is.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        Caller { identity, namespace, end }
    }

    /// For people, and for what is stored about the caller.
    pub fn name(&self) -> String {
        self.identity.to_string()
    }

    /// Refuses a key that is not the caller's.
    #[allow(clippy::result_large_err)]
    pub fn key(&self, key: &[u8]) -> Result<(), Status> {
        match key.starts_with(&self.namespace) {
            true => Ok(()),
            false => Err(self.denied()),
        }
    }

    /// Refuses a range that is not within the caller's keys; `None` has no end.
    #[allow(clippy::result_large_err)]
    pub fn range(&self, start: &[u8], end: Option<&[u8]>) -> Result<(), Status> {
        self.key(start)?;
        match end {
            Some(end) if end <= self.end.as_slice() => Ok(()),
            _ => Err(self.denied()),
        }
    }

    fn denied(&self) -> Status {
        let (who, prefix) = (&self.identity, self.namespace.escape_ascii());
        Status::permission_denied(format!(
            "etcdserver: permission denied: {who} has the keys that begin with {prefix}, and no others"
        ))
    }
}

/// The callers whose certificates were seen: reading a certificate costs more than a commit.
#[derive(Debug, Default)]
pub struct Callers(RwLock<BTreeMap<Vec<u8>, Arc<Caller>>>);

impl Callers {
    /// Who calls, if they may: regions, zones and cells. TLS has checked the certificate.
    #[allow(clippy::result_large_err)]
    pub fn of<T>(&self, request: &Request<T>) -> Result<Arc<Caller>, Status> {
        let certificates = request.peer_certs().unwrap_or_default();
        let certificate = certificates.first().map(AsRef::as_ref).unwrap_or_default();
        if let Some(caller) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(certificate) {
            return Ok(caller.clone());
        }
        let identity = trust::peer(request)?;
        match identity.role {
            Role::Region | Role::Zone | Role::Cell => {}
            Role::Host | Role::Vswitch | Role::Store | Role::Operator => {
                let who = identity.role;
                return Err(Status::permission_denied(format!(
                    "a {who} may not call this; only a region, a zone or a cell may"
                )));
            }
        }
        let caller = Arc::new(Caller::new(identity));
        let mut callers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= CALLERS_MAX {
            callers.clear();
        }
        callers.insert(certificate.to_vec(), caller.clone());
        Ok(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_its_own_keys_and_no_others() {
        let caller = Caller::new(Identity::new(Role::Cell, "us-east-1a-c1"));
        caller.key(b"cell/us-east-1a-c1/vm/i-1").unwrap();
        caller.key(b"cell/us-east-1a-c1/").unwrap();
        for other in
            ["", "cell/us-east-1a-c1", "cell/us-east-1a-c10/vm", "cell/us-east-1b-c1/vm", "region/x/"]
        {
            assert!(caller.key(other.as_bytes()).is_err(), "{other}");
        }
        caller.range(b"cell/us-east-1a-c1/", Some(b"cell/us-east-1a-c10")).unwrap();
        caller.range(b"cell/us-east-1a-c1/vm", Some(b"cell/us-east-1a-c1/vn")).unwrap();
        assert!(caller.range(b"cell/us-east-1a-c1/", None).is_err());
        assert!(caller.range(b"cell/us-east-1a-c1/", Some(b"cell/us-east-1a-c11")).is_err());
        assert!(caller.range(b"cell/us-east-1a-c0/", Some(b"cell/us-east-1a-c10")).is_err());
    }
}

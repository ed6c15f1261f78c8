//! What can go wrong on the command line, each with what to do about it.

use crate::shell::quoted_path;
use std::path::PathBuf;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no cloud in the directory.
    #[error("there is no cloud in {dir}; `nephos up --dir {dir}` makes one", dir = quoted_path(.0))]
    NoCloud(PathBuf),
    /// The cloud is there but does not run.
    #[error("the cloud in {dir} is not up; `nephos up --dir {dir}` starts it", dir = quoted_path(.0))]
    NotUp(PathBuf),
    /// The cloud is somebody else's.
    #[error("only its owner may look into the cloud in {dir}; run it as root", dir = quoted_path(.0))]
    Denied(PathBuf),
    /// A file cannot be used.
    #[error("cannot {what} {path}", path = path.display())]
    File {
        /// "read", "write"...
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file's content cannot be used.
    #[error("{path} cannot be understood: {why}", path = path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A process cannot be started or signalled.
    #[error("cannot {what}")]
    Process {
        /// "start region"...
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Certificates.
    #[error("cannot set up who is who in the cloud")]
    Trust(#[from] contract::trust::TrustError),
    /// The region does not answer.
    #[error("{0}")]
    Silent(String),
    /// The region refuses.
    #[error("{0}")]
    Region(String),
    /// A role ended with an error.
    #[error("the {role} ended")]
    Role {
        /// Which.
        role: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Anything else: a whole sentence.
    #[error("{0}")]
    Said(String),
}

impl Error {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::NoCloud(_) | Error::NotUp(_) => 3,
            _ => 1,
        }
    }

    /// For `map_err` on a file operation.
    pub fn file(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { what, path, source }
    }
}

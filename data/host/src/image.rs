//! Machine images as this host has them on disk.
//!
//! ```text
//!   IMAGES/ami-…/vmlinuz      the kernel
//!               /initrd.img   its initial file system
//!               /disk.qcow2   the root disk, never written: each VM has an overlay on it
//!               /image.toml   cmdline = "…", root_device = "/dev/vda"
//! ```

use base::ids::ImageId;
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};

/// An image that can be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The kernel.
    pub kernel: PathBuf,
    /// Its initial file system.
    pub initrd: PathBuf,
    /// What the VMs' disks are overlays on.
    pub disk: PathBuf,
    /// The kernel's command line.
    pub cmdline: String,
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The id is not one.
    #[error(transparent)]
    Id(#[from] base::ids::IdError),
    /// It is not on this host, or not whole.
    #[error("the image {id} is not on this host: cannot read {path}")]
    Missing {
        /// Which image.
        id: String,
        /// What of it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `image.toml` is wrong.
    #[error("{path} cannot be understood: {why}")]
    Description {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

#[derive(Deserialize)]
struct Description {
    cmdline: String,
    #[serde(default)]
    root_device: String,
}

impl Image {
    /// The image with this id under the directory `images`.
    pub fn open(images: &Path, id: &str) -> Result<Self, ImageError> {
        // An id from outside becomes a path only after it was parsed.
        let id: ImageId = id.parse()?;
        let directory = images.join(id.to_string());
        let missing =
            |path: &Path, source| ImageError::Missing { id: id.to_string(), path: path.to_owned(), source };
        let path = directory.join("image.toml");
        let text = std::fs::read_to_string(&path).map_err(|e| missing(&path, e))?;
        let description: Description = toml::from_str(&text)
            .map_err(|e| ImageError::Description { path: path.clone(), why: e.message().to_owned() })?;
        let mut cmdline = description.cmdline;
        if !description.root_device.is_empty() && !cmdline.split(' ').any(|word| word.starts_with("root=")) {
            cmdline.push_str(&format!(" root={}", description.root_device));
        }
        let file = |name: &str| {
            let path = directory.join(name);
            path.metadata().map_err(|e| missing(&path, e))?;
            std::path::absolute(&path).map_err(|e| missing(&path, e))
        };
        Ok(Image {
            kernel: file("vmlinuz")?,
            initrd: file("initrd.img")?,
            disk: file("disk.qcow2")?,
            cmdline,
        })
    }

    /// The images on this host: those with a description.
    pub fn list(images: &Path) -> io::Result<Vec<ImageId>> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(images)? {
            let entry = entry?;
            let id: Option<ImageId> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            ids.extend(id.filter(|_| entry.path().join("image.toml").exists()));
        }
        ids.sort();
        Ok(ids)
    }
}

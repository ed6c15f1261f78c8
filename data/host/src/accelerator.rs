//! What runs the guests' instructions: the processor (KVM) if it is *proved* to, else QEMU's translator (TCG).
//!
//! A `/dev/kvm` that opens proves nothing: nested and paravirtual ones create VMs, run real-mode code, and then never
//! boot a kernel. So the proof is a kernel's: one of the host's images is booted under KVM until its kernel says
//! who it is, within two seconds. The answer holds for one boot of the machine, and is kept in
//! `accelerator.json`. Agents give it in the background; VMs that are to start wait for it.

use crate::image::Image;
use crate::isolation::UidRange;
use crate::qemu::command::Accelerator;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

/// The first words of every Linux kernel's log.
const MARK: &[u8] = b"Linux version";
const PROOF_TIMEOUT: Duration = Duration::from_secs(2);
/// How long other hosts' proofs are waited for.
const ALONE_WAIT: Duration = Duration::from_secs(30);
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// What the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorChoice {
    /// KVM if it is proved, else TCG.
    #[default]
    Auto,
    /// KVM, unproved.
    Kvm,
    /// TCG.
    Tcg,
}

/// What runs the guests, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceleratorAnswer {
    /// What.
    pub accelerator: Accelerator,
    /// Why, for people.
    pub reason: String,
}

/// The answer as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    boot_id: String,
    kernel: String,
    answer: AcceleratorAnswer,
}

/// Answers the operator's choice; under `auto` from what is kept in `directory`, or by a proof with one of `images`
/// as the user that VMs have.
pub async fn choose(
    choice: AcceleratorChoice,
    directory: &Path,
    images: &Path,
    uids: Option<UidRange>,
) -> AcceleratorAnswer {
    let answer = |accelerator, reason: String| AcceleratorAnswer { accelerator, reason };
    match choice {
        AcceleratorChoice::Kvm => return answer(Accelerator::Kvm, "configured, and not proved".into()),
        AcceleratorChoice::Tcg => return answer(Accelerator::Tcg, "configured".into()),
        AcceleratorChoice::Auto => {}
    }
    if let Err(e) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return answer(Accelerator::Tcg, format!("/dev/kvm cannot be opened: {e}"));
    }
    let image = Image::list(images)
        .ok()
        .and_then(|ids| ids.into_iter().find_map(|id| Image::open(images, &id.to_string()).ok()));
    let Some(image) = image else {
        let reason = format!("KVM is not proved: no image in {} to prove it with", images.display());
        return answer(Accelerator::Tcg, reason);
    };
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let kernel = image.kernel.display().to_string();
    let path = directory.join("accelerator.json");
    let kept = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
    if let Some(kept) = kept.filter(|kept| kept.boot_id == boot_id && kept.kernel == kernel) {
        return kept.answer;
    }
    let alone = alone().await;
    let mut proof = prove(&image, uids).await;
    if matches!(proof, Proof::Silent) {
        // A busy machine can keep a kernel silent for a while; one that is silent twice means it.
        proof = prove(&image, uids).await;
    }
    drop(alone);
    let answer = match proof {
        Proof::Spoke => answer(Accelerator::Kvm, format!("proved: {kernel} spoke under it")),
        Proof::Silent => {
            let seconds = PROOF_TIMEOUT.as_secs();
            answer(Accelerator::Tcg, format!("KVM is not proved: no kernel spoke within {seconds} s, twice"))
        }
        // Permissions and packages can be put right without a reboot: asked again at the next start.
        Proof::Untried(why) => return answer(Accelerator::Tcg, format!("KVM is not proved: {why}")),
    };
    let kept = Kept { boot_id, kernel, answer: answer.clone() };
    let bytes = serde_json::to_vec_pretty(&kept).unwrap_or_default();
    if let Err(error) = base::disk::file_replace(&path, &bytes, 0o600) {
        tracing::warn!(path = %path.display(), %error, "cannot keep what was found out about KVM");
    }
    answer
}

/// One proof at a time on the whole machine: each of many hosts' would slow the others' into silence. Without the
/// lock (another user's, for example) it is proved all the same.
async fn alone() -> Option<File> {
    let name = format!("nephos-accelerator-{}.lock", rustix::process::geteuid().as_raw());
    let path = std::env::temp_dir().join(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    // In a directory where everybody may write, a link is not followed.
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    let file = options.open(&path).ok()?;
    let began = Instant::now();
    while began.elapsed() < ALONE_WAIT {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(file),
            Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(_) => return None,
        }
    }
    None
}

enum Proof {
    Spoke,
    Silent,
    /// QEMU did not come as far as running a guest.
    Untried(String),
}

/// Boots a kernel under KVM until it speaks.
async fn prove(image: &Image, uids: Option<UidRange>) -> Proof {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-nodefaults", "-no-user-config", "-nographic", "-display", "none", "-no-reboot"]);
    command.args(["-machine", "q35,usb=off,vmport=off", "-m", "256M", "-serial", "stdio"]);
    command.args(Accelerator::Kvm.arguments());
    command.arg("-kernel").arg(&image.kernel);
    command.args(["-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    if let Some(UidRange { first, .. }) = uids {
        command.uid(first).gid(crate::qemu::process::device_group(Accelerator::Kvm).unwrap_or(first));
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return Proof::Untried(format!("qemu-system-x86_64 cannot be executed: {e}")),
    };
    let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Proof::Untried("QEMU has no output".into());
    };
    let mut output = Vec::new();
    let spoke = timeout(PROOF_TIMEOUT, async {
        while output.len() < OUTPUT_BYTES_MAX {
            match stdout.read_buf(&mut output).await {
                Ok(0) | Err(_) => return false,
                Ok(_) if output.windows(MARK.len()).any(|window| window == MARK) => return true,
                Ok(_) => {}
            }
        }
        false
    })
    .await;
    if child.start_kill().is_ok() {
        let _ = child.wait().await;
    }
    match spoke {
        Ok(true) => Proof::Spoke,
        Ok(false) => {
            let mut words = String::new();
            let _ = timeout(PROOF_TIMEOUT, stderr.read_to_string(&mut words)).await;
            let words: Vec<&str> = words.lines().map(str::trim).collect();
            Proof::Untried(format!("QEMU ended before a kernel spoke: {}", words.join("; ")))
        }
        Err(_) => Proof::Silent,
    }
}

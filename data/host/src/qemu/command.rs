//! The command line of one VM's QEMU, as a pure function.
//!
//! Every path of the VM's own is relative to its directory, in which QEMU is started: socket addresses are short,
//! and the directory may lie anywhere. The one absolute path, of the pid file, is how a restarted agent knows its
//! own VMs among all processes.
//!
//! Deliberately absent: network devices.

use super::{files, uuid};
use crate::image::Image;
use base::ids::InstanceId;
use contract::VmSpec;
use std::ffi::OsString;
use std::path::Path;

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl Accelerator {
    /// As in configs and in the hello to the cell.
    pub const fn as_str(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }

    pub(crate) const fn arguments(self) -> [&'static str; 4] {
        match self {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // Five-level page tables cost a translator a fifth level on every walk. The code cache is bounded:
            // the VM's memory limit counts on it.
            Accelerator::Tcg => ["-accel", "tcg,tb-size=256", "-cpu", "max,la57=off"],
        }
    }
}

/// QEMU's arguments for a VM in `directory`.
pub fn arguments(
    vm: InstanceId,
    spec: &VmSpec,
    image: &Image,
    accelerator: Accelerator,
    directory: &Path,
) -> Vec<OsString> {
    let mut line = Line::default();
    line.words(&["-name", &option_value(&vm.to_string())]);
    // Not `-nographic`: with it the firmware clears the serial console's screen, in front of what the guest says.
    line.words(&["-nodefaults", "-no-user-config", "-display", "none"]);
    line.words(&["-machine", "q35,usb=off,vmport=off"]);
    line.words(&accelerator.arguments());
    line.words(&["-smp", &spec.vcpus.to_string(), "-m", &format!("{}M", spec.memory_mib)]);
    line.words(&["-rtc", "base=utc"]);
    line.path("-kernel", &image.kernel);
    line.path("-initrd", &image.initrd);
    line.words(&["-append", &image.cmdline]);
    line.words(&[
        "-drive",
        &format!("if=none,id=root,file={},format=qcow2,discard=unmap", files::DISK),
        "-device",
        "virtio-blk-pci,drive=root,romfile=",
        "-device",
        "virtio-rng-pci,romfile=",
    ]);
    let smbios = format!(
        "type=1,manufacturer=Nephos,product={},serial={vm},uuid={}",
        option_value(&spec.instance_type),
        uuid(vm)
    );
    line.words(&["-smbios", &smbios]);
    line.words(&["-fw_cfg", &format!("name=opt/nephos/meta-data,file={}", files::META_DATA)]);
    if !spec.user_data.is_empty() {
        line.words(&["-fw_cfg", &format!("name=opt/nephos/user-data,file={}", files::USER_DATA)]);
    }
    line.words(&["-chardev", &format!("ringbuf,id=console,size={}", crate::console::RING_BYTES)]);
    line.words(&["-serial", "chardev:console"]);
    line.words(&["-qmp", &format!("unix:{},server=on,wait=off", files::QMP_SOCKET)]);
    // A guest that switches itself off leaves its process paused, to be told from one that died; a panic that a
    // guest reports ends the process, to be told from both.
    line.words(&["-action", "shutdown=pause,panic=exit-failure"]);
    line.words(&["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
    line.path("-pidfile", &directory.join(files::PID));
    line.0
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    fn path(&mut self, option: &str, path: &Path) {
        self.0.extend([OsString::from(option), path.into()]);
    }
}

/// A value inside an option: commas separate members, so one that is meant is doubled.
fn option_value(text: &str) -> String {
    text.replace(',', ",,")
}

/// What the guest reads as `opt/nephos/meta-data`: one `key=value` a line.
pub fn meta_data(vm: InstanceId, spec: &VmSpec) -> String {
    let launch_index = spec.launch_index.to_string();
    let vm = vm.to_string();
    let lines = [
        ("instance-id", vm.as_str()),
        ("local-hostname", vm.as_str()),
        ("availability-zone", &spec.zone),
        ("instance-type", &spec.instance_type),
        ("ami-id", &spec.image_id),
        ("account-id", &spec.account_id),
        ("reservation-id", &spec.reservation_id),
        ("ami-launch-index", &launch_index),
        ("key-name", &spec.key_name),
        ("public-key", &spec.ssh_public_key),
    ];
    let mut text = String::new();
    for (key, value) in lines.iter().filter(|(_, value)| !value.trim().is_empty()) {
        // A value cannot start a line of its own.
        let value = value.trim().replace(|character: char| character.is_control(), " ");
        text.push_str(&format!("{key}={value}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> VmSpec {
        VmSpec {
            instance_id: "i-0123456789abcdef0".into(),
            instance_type: "t3.micro,evil=1".into(),
            vcpus: 2,
            memory_mib: 1024,
            zone: "us-east-1a".into(),
            user_data: b"hello".to_vec(),
            ssh_public_key: "ssh-ed25519 AAAA me\ninstance-id=i-forged\n".into(),
            ..VmSpec::default()
        }
    }

    #[test]
    fn the_command_line_is_as_it_was() {
        let image = Image {
            kernel: "/images/ami-1/vmlinuz".into(),
            initrd: "/images/ami-1/initrd.img".into(),
            disk: "/images/ami-1/disk.qcow2".into(),
            cmdline: "console=ttyS0 root=/dev/vda".into(),
        };
        let vm: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        let line = arguments(vm, &spec(), &image, Accelerator::Tcg, Path::new("/h/vms/i-0123456789abcdef0"));
        let line: Vec<String> = line.into_iter().map(|word| word.into_string().unwrap()).collect();
        let expected = "-name|i-0123456789abcdef0|-nodefaults|-no-user-config|-display|none|-machine|\
            q35,usb=off,vmport=off|-accel|tcg,tb-size=256|-cpu|max,la57=off|-smp|2|-m|1024M|-rtc|base=utc|\
            -kernel|/images/ami-1/vmlinuz|-initrd|/images/ami-1/initrd.img|-append|console=ttyS0 root=/dev/vda|\
            -drive|if=none,id=root,file=machine/disk.qcow2,format=qcow2,discard=unmap|\
            -device|virtio-blk-pci,drive=root,romfile=|-device|virtio-rng-pci,romfile=|-smbios|\
            type=1,manufacturer=Nephos,product=t3.micro,,evil=1,serial=i-0123456789abcdef0,\
            uuid=ec201234-5678-49ab-8cde-0000000000f0|\
            -fw_cfg|name=opt/nephos/meta-data,file=meta-data|-fw_cfg|name=opt/nephos/user-data,file=user-data|\
            -chardev|ringbuf,id=console,size=262144|-serial|chardev:console|\
            -qmp|unix:machine/qmp.sock,server=on,wait=off|-action|shutdown=pause,panic=exit-failure|\
            -sandbox|on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny|\
            -pidfile|/h/vms/i-0123456789abcdef0/machine/qemu.pid";
        assert_eq!(line.join("|"), expected);
    }

    #[test]
    fn a_value_of_the_meta_data_cannot_forge_another() {
        let text = meta_data("i-0123456789abcdef0".parse().unwrap(), &spec());
        assert_eq!(text.lines().filter(|line| line.starts_with("instance-id=")).count(), 1);
        assert!(text.contains("public-key=ssh-ed25519 AAAA me instance-id=i-forged\n"), "{text}");
        assert!(text.contains("availability-zone=us-east-1a\n"));
        assert!(!text.contains("key-name"));
    }
}

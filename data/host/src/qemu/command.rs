//! The command line of one VM's QEMU, as a pure function.
//!
//! Every path of the VM's own is relative to its directory, in which QEMU is started: socket addresses are short,
//! and the directory may lie anywhere. The one absolute path, of the pid file, is how a restarted agent knows its
//! own VMs among all processes.
//!
//! Network cards are vhost-user: the guest's memory is shared with the host's switch, which listens where QEMU
//! connects, and connects again whenever the switch has gone away. The memory is sealed against shrinking (QEMU's
//! default), so that nobody can pull it from under the switch. The first card stays for a VM's life; the others are
//! behind root ports, where they can be taken out and put in.

use super::{files, uuid};
use crate::card::{self, Card};
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

/// The first card's place is on the machine itself; a card N has the root port N, of at least so many. (A t3.medium
/// has three cards.)
const ROOT_PORTS_MIN: u32 = 3;

/// QEMU's arguments for a VM in `directory`. `cards` are those of the spec, checked.
pub fn arguments(
    vm: InstanceId,
    spec: &VmSpec,
    cards: &[Card],
    image: &Image,
    accelerator: Accelerator,
    directory: &Path,
) -> Vec<OsString> {
    let mut line = Line::default();
    line.words(&["-name", &option_value(&vm.to_string())]);
    // Not `-nographic`: with it the firmware clears the serial console's screen, in front of what the guest says.
    line.words(&["-nodefaults", "-no-user-config", "-display", "none"]);
    line.words(&["-machine", if cards.is_empty() { MACHINE } else { MACHINE_WITH_CARDS }]);
    line.words(&accelerator.arguments());
    line.words(&["-smp", &spec.vcpus.to_string(), "-m", &format!("{}M", spec.memory_mib)]);
    line.words(&["-rtc", "base=utc"]);
    line.path("-kernel", &image.kernel);
    line.path("-initrd", &image.initrd);
    let cmdline = match cards.len() {
        0 => image.cmdline.clone(),
        // What the kernel does not know it hands to init: an image can do without looking for cards.
        count => format!("{} {CARDS_WORD}={count}", image.cmdline),
    };
    line.words(&["-append", &cmdline]);
    line.words(&[
        "-drive",
        &format!("if=none,id=root,file={},format=qcow2,discard=unmap", files::DISK),
        "-device",
        "virtio-blk-pci,drive=root,romfile=",
        "-device",
        "virtio-rng-pci,romfile=",
    ]);
    line.cards(spec, cards, accelerator);
    // As on EC2: cloud-init believes that it is there if uuid and serial number are the same and begin with `ec2`, and
    // the instance's id is the asset tag of the board.
    let product = option_value(&spec.instance_type);
    let uuid = uuid(vm);
    line.words(&[
        "-smbios",
        &format!("type=1,manufacturer=Nephos,product={product},serial={uuid},uuid={uuid}"),
    ]);
    line.words(&["-smbios", &format!("type=2,manufacturer=Nephos,asset={vm}")]);
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

const MACHINE: &str = "q35,usb=off,vmport=off";
const MACHINE_WITH_CARDS: &str = "q35,usb=off,vmport=off,memory-backend=memory";
/// The guest's memory, where it is shared.
pub(crate) const MEMORY: &str = "memory";
/// On the kernel's command line: how many network cards there are. Absent: none.
const CARDS_WORD: &str = "nephos_cards";

/// Where the card with this device index, from 1, is plugged in.
pub(crate) fn root_port(device_index: u32) -> String {
    format!("card{device_index}")
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    fn cards(&mut self, spec: &VmSpec, cards: &[Card], accelerator: Accelerator) {
        let Some(last) = cards.iter().map(|card| card.device_index).max() else { return };
        let memory = format!("memory-backend-memfd,id={MEMORY},share=on,size={}M", spec.memory_mib);
        self.words(&["-object", &memory]);
        for port in 1..=last.max(ROOT_PORTS_MIN) {
            let (device, function) = (0x10 + (port - 1) / 8, (port - 1) % 8);
            let all = if function == 0 { ",multifunction=on" } else { "" };
            let id = root_port(port);
            let place = format!("chassis={port},slot={port},addr={device:#x}.{function}{all}");
            self.words(&["-device", &format!("pcie-root-port,id={id},{place}")]);
        }
        let pairs = card::queue_pairs(spec, accelerator == Accelerator::Tcg);
        for card in cards {
            let id = card.interface;
            self.words(&["-chardev", &format!("socket,id={id},path={},reconnect=1", card.socket())]);
            self.words(&["-netdev", &format!("vhost-user,id={id},chardev={id},queues={pairs}")]);
            let mut device = format!("virtio-net-pci,id={id},netdev={id},mac={}", card.mac_text());
            if card.device_index > 0 {
                device.push_str(&format!(",bus={}", root_port(card.device_index)));
            }
            device.push_str(",romfile=,mrg_rxbuf=on");
            if card.mtu > 0 {
                device.push_str(&format!(",host_mtu={}", card.mtu));
            }
            if pairs > 1 {
                device.push_str(",mq=on");
            }
            // QEMU 7.2's translator crashes when a vhost-user card uses MSI-X.
            if accelerator == Accelerator::Tcg {
                device.push_str(",vectors=0");
            }
            self.words(&["-device", &device]);
        }
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

    fn line(cards: &[Card], accelerator: Accelerator) -> String {
        let image = Image {
            kernel: "/images/ami-1/vmlinuz".into(),
            initrd: "/images/ami-1/initrd.img".into(),
            disk: "/images/ami-1/disk.qcow2".into(),
            cmdline: "console=ttyS0 root=/dev/vda".into(),
        };
        let vm: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        let directory = Path::new("/h/vms/i-0123456789abcdef0");
        let line = arguments(vm, &spec(), cards, &image, accelerator, directory);
        line.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn the_command_line_is_as_it_was() {
        let expected = "-name|i-0123456789abcdef0|-nodefaults|-no-user-config|-display|none|-machine|\
            q35,usb=off,vmport=off|-accel|tcg,tb-size=256|-cpu|max,la57=off|-smp|2|-m|1024M|-rtc|base=utc|\
            -kernel|/images/ami-1/vmlinuz|-initrd|/images/ami-1/initrd.img|-append|console=ttyS0 root=/dev/vda|\
            -drive|if=none,id=root,file=machine/disk.qcow2,format=qcow2,discard=unmap|\
            -device|virtio-blk-pci,drive=root,romfile=|-device|virtio-rng-pci,romfile=|-smbios|\
            type=1,manufacturer=Nephos,product=t3.micro,,evil=1,serial=ec201234-5678-49ab-8cde-0000000000f0,\
            uuid=ec201234-5678-49ab-8cde-0000000000f0|-smbios|type=2,manufacturer=Nephos,asset=i-0123456789abcdef0|\
            -fw_cfg|name=opt/nephos/meta-data,file=meta-data|-fw_cfg|name=opt/nephos/user-data,file=user-data|\
            -chardev|ringbuf,id=console,size=262144|-serial|chardev:console|\
            -qmp|unix:machine/qmp.sock,server=on,wait=off|-action|shutdown=pause,panic=exit-failure|\
            -sandbox|on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny|\
            -pidfile|/h/vms/i-0123456789abcdef0/machine/qemu.pid";
        assert_eq!(line(&[], Accelerator::Tcg), expected);
    }

    #[test]
    fn cards_share_the_memory_and_are_where_they_belong() {
        let card = |device_index: u32, mtu: u32| Card {
            interface: format!("eni-{device_index:017x}").parse().unwrap(),
            mac: [2, 0, 0, 0, 0, device_index as u8],
            device_index,
            mtu,
        };
        let cards = [card(0, 9001), card(2, 0)];
        let tcg = line(&cards, Accelerator::Tcg);
        let expected = "-object|memory-backend-memfd,id=memory,share=on,size=1024M|\
            -device|pcie-root-port,id=card1,chassis=1,slot=1,addr=0x10.0,multifunction=on|\
            -device|pcie-root-port,id=card2,chassis=2,slot=2,addr=0x10.1|\
            -device|pcie-root-port,id=card3,chassis=3,slot=3,addr=0x10.2|\
            -chardev|socket,id=eni-00000000000000000,path=ports/eni-00000000000000000,reconnect=1|\
            -netdev|vhost-user,id=eni-00000000000000000,chardev=eni-00000000000000000,queues=1|\
            -device|virtio-net-pci,id=eni-00000000000000000,netdev=eni-00000000000000000,mac=02:00:00:00:00:00,\
            romfile=,mrg_rxbuf=on,host_mtu=9001,vectors=0|\
            -chardev|socket,id=eni-00000000000000002,path=ports/eni-00000000000000002,reconnect=1|\
            -netdev|vhost-user,id=eni-00000000000000002,chardev=eni-00000000000000002,queues=1|\
            -device|virtio-net-pci,id=eni-00000000000000002,netdev=eni-00000000000000002,mac=02:00:00:00:00:02,\
            bus=card2,romfile=,mrg_rxbuf=on,vectors=0|";
        assert!(tcg.contains(expected), "{tcg}");
        assert!(tcg.contains("|-machine|q35,usb=off,vmport=off,memory-backend=memory|"), "{tcg}");
        assert!(tcg.contains("|console=ttyS0 root=/dev/vda nephos_cards=2|"), "{tcg}");
        let kvm = line(&cards, Accelerator::Kvm);
        assert!(kvm.contains(",queues=2|") && kvm.contains(",mq=on|") && !kvm.contains("vectors"), "{kvm}");
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

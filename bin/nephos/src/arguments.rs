//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Your own EC2 in one binary: a cloud on this machine, behind the AWS API.
#[derive(Debug, Parser)]
#[command(name = "nephos", version, propagate_version = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong command line, 3 the cloud is not up.\n\n\
    Examples:\n  nephos up --detach\n  eval \"$(nephos env)\"\n  aws ec2 describe-instances\n  nephos status\n  nephos down")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cloud on this machine, or start it again, and supervise it.
    Up(Up),
    /// Power the guests off cleanly and stop the cloud; `up` starts those again that were running.
    #[command(after_help = "Examples:\n  nephos down\n  nephos down --dir /tmp/cloud")]
    Down(At),
    /// Show regions, zones, cells, racks, hosts and VMs, each with its state.
    Status(Show),
    /// Print what a shell must export so that AWS clients find the cloud.
    #[command(after_help = "Example:\n  eval \"$(nephos env)\"")]
    Env(At),
    /// Kill processes (SIGKILL) and leave them dead, to prove what goes on without them.
    #[command(after_help = "Examples:\n  nephos kill control-plane\n  nephos kill cell/us-east-1a-c1")]
    Kill(Target),
    /// Start processes again that `kill` has left dead.
    #[command(after_help = "Example:\n  nephos start control-plane")]
    Start(Target),
    /// Customer accounts.
    #[command(after_help = "Example:\n  nephos account create team-a | jq -r .access_key_id")]
    Account(Account),
    /// Say why an instance is where it is, and what each other host lacked.
    #[command(after_help = "Example:\n  nephos explain i-0123456789abcdef0")]
    Explain(Explain),
    /// The metadata stores of the region and the cells: backup, restore, verify, move to another engine.
    Store(Store),
    /// Machine images: what there is, and more of them.
    Image(Image),
    /// Run a region: API, resource manager, choice of zone and cell.
    #[command(hide = true)]
    Region(Role),
    /// Run a zone controller.
    #[command(hide = true)]
    Zone(Role),
    /// Run a cell controller.
    #[command(hide = true)]
    Cell(Role),
    /// Run a host agent.
    #[command(hide = true)]
    Host(Role),
}

/// Which cloud.
#[derive(Clone, Debug, Args)]
pub struct At {
    /// The cloud's directory [default: /var/lib/nephos as root, else ~/.local/state/nephos].
    #[arg(long, env = "NEPHOS_DIR", value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Which cloud, and in which form.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  nephos status\n  nephos status --json | jq '.zones[].cells[].racks[].hosts[].vms'"
)]
pub struct Show {
    #[command(flatten)]
    pub at: At,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `nephos up`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  nephos up\n  nephos up --small --detach\n  nephos up --standby\n  nephos up --dir /tmp/cloud --port 0 --zones 1"
)]
pub struct Up {
    #[command(flatten)]
    pub at: At,
    /// The API's port on 127.0.0.1; 0 takes any free one [default: 4566, or as before].
    #[arg(long)]
    pub port: Option<u16>,
    /// Availability zones [default: 3].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=6))]
    pub zones: Option<u8>,
    /// Hosts in each zone [default: 2].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub hosts_per_zone: Option<u8>,
    /// One zone with one host.
    #[arg(long, conflicts_with_all = ["zones", "hosts_per_zone"])]
    pub small: bool,
    /// Two processes of the region and of each cell, one of which leads while the other stands by; they share a
    /// `nephos store`.
    #[arg(long)]
    pub standby: bool,
    /// The same over etcd: `etcd://[user:password@]host:port[,...][/prefix][?ca=FILE&cert=FILE&key=FILE]`.
    #[arg(long, env = "NEPHOS_STORE", value_name = "URL", hide_env_values = true)]
    pub store: Option<String>,
    /// Go to the background once the cloud answers.
    #[arg(long)]
    pub detach: bool,
    /// Where machine images are copied from, at a start [default: the directory given last].
    #[arg(long, env = "NEPHOS_IMAGES", value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// What runs VMs: `qemu`, or `simulated`, which boots nothing [default: qemu].
    #[arg(long, value_enum)]
    pub vmm: Option<Vmm>,
    /// What runs guests' instructions; `auto` proves KVM before it trusts it [default: auto].
    #[arg(long, value_enum)]
    pub accelerator: Option<Accelerator>,
    /// vCPUs of each host, more than the machine has if need be [default: 8].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub vcpus_per_host: Option<u32>,
    /// Memory of each host, in GiB [default: 16].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub memory_per_host: Option<u32>,
    /// vCPUs that one account may use [default: 256].
    #[arg(long)]
    pub vcpus_per_account: Option<u32>,
    /// Seconds that a guest has to shut down before its power is cut [default: 90].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub shutdown_timeout: Option<u64>,
    /// What each metadata store that is not etcd may hold in memory, in GiB; more is refused [default: 8, or as before].
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub state_max: Option<u32>,
    /// Keep the records of networks (VPCs, groups, interfaces, addresses), to try their API: no packet is carried yet.
    #[arg(long)]
    pub networks: bool,
    /// For crash tests: kill the process that reaches this step of a launch, once.
    #[arg(long, hide = true, value_name = "STEP")]
    pub crash_at: Option<String>,
}

/// What runs VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Vmm {
    /// Real guests.
    Qemu,
    /// No guests at all: to try the control plane.
    Simulated,
}

/// What runs guests' instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accelerator {
    /// KVM if it boots Linux here, else TCG.
    Auto,
    /// The processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// Which processes.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// `region`, `zone`, `cell`, `store` or `host`, all of them or one (`host/us-east-1a-c1-h1`; of two processes
    /// `cell/us-east-1a-c1/2`); or `control-plane`.
    #[arg(value_name = "ROLE[/INSTANCE]")]
    pub target: String,
    #[command(flatten)]
    pub at: At,
}

/// Customer accounts.
#[derive(Clone, Debug, Args)]
pub struct Account {
    #[command(subcommand)]
    pub command: AccountCommand,
}

/// What to do with accounts.
#[derive(Clone, Debug, Subcommand)]
pub enum AccountCommand {
    /// Make an account with an access key, printed as JSON.
    #[command(after_help = "Example:\n  nephos account create team-a")]
    Create {
        /// A name for people.
        name: String,
        #[command(flatten)]
        at: At,
    },
}

/// `nephos explain`.
#[derive(Clone, Debug, Args)]
pub struct Explain {
    /// `i-...`
    pub instance: String,
    #[command(flatten)]
    pub show: Show,
}

/// The metadata stores.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Store {
    #[command(subcommand)]
    pub command: Option<StoreCommand>,
    /// Run a metadata store that several processes share, with this config (TOML).
    #[arg(long, hide = true)]
    pub config: Option<PathBuf>,
}

/// What to do with a metadata store.
#[derive(Clone, Debug, Subcommand)]
pub enum StoreCommand {
    /// Take a backup of a running process's store into a file, while it goes on.
    #[command(after_help = "Examples:\n  nephos store backup region --to region.backup\n  \
        nephos store backup cell/us-east-1a-c1 --to us-east-1a-c1.backup")]
    Backup {
        /// `region`, or `cell/us-east-1a-c1`; `store` where that is shared.
        #[arg(value_name = "ROLE[/INSTANCE]")]
        target: String,
        /// The file to write, which must not exist.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        #[command(flatten)]
        at: At,
    },
    /// Move the stores of the region and of all cells to another engine. The control plane is stopped for it; hosts and
    /// guests go on. Until everything has been copied and read back the cloud stays what it was.
    #[command(after_help = "Examples:\n  nephos store migrate --to shared\n  \
        nephos store migrate --to etcd://10.0.0.1,10.0.0.2,10.0.0.3/cloud\n  nephos up")]
    Migrate {
        /// `embedded` (as `nephos up` does), `shared` (as `nephos up --standby`), or etcd:
        /// `etcd://[user:password@]host:port[,...][/prefix][?ca=FILE&cert=FILE&key=FILE]`.
        #[arg(long, value_name = "ENGINE")]
        to: String,
        #[command(flatten)]
        at: At,
    },
    /// After an etcd was restored from its snapshot: give the stores in it a higher incarnation, so that no host takes
    /// what they say for old. The control plane must not run.
    #[command(after_help = "Example:\n  nephos kill control-plane\n  etcdctl snapshot restore ...\n  \
        nephos store incarnation\n  nephos start control-plane")]
    Incarnation {
        /// Higher than this too: to be given if a higher one was lost with this cloud's directory [default: as this
        /// cloud's directory and its stores know].
        #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
        above: u64,
        #[command(flatten)]
        at: At,
    },
    /// Make a store of a backup, for a process that is down; what is in the directory is moved aside, never removed.
    #[command(after_help = "Example:\n  nephos kill region\n  \
        nephos store restore region.backup --to DIR/region/store --replace\n  nephos start region")]
    Restore {
        /// A backup.
        #[arg(value_name = "FILE")]
        backup: PathBuf,
        /// The store's directory.
        #[arg(long, value_name = "DIRECTORY")]
        to: PathBuf,
        /// Move a store that is there aside, instead of refusing.
        #[arg(long)]
        replace: bool,
        /// The restored store's incarnation is at least this: to be given if a store that had been restored itself
        /// was lost with its whole directory [default: higher than the backup's and the directory's].
        #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
        incarnation: u64,
    },
    /// Read all of a backup, or of a store whose process is down, and say what is in it or what is wrong where.
    #[command(
        after_help = "Examples:\n  nephos store verify region.backup\n  nephos store verify DIR/region/store"
    )]
    Verify {
        /// A backup, or a store's directory.
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Machine images.
#[derive(Clone, Debug, Args)]
pub struct Image {
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// What to do with machine images.
#[derive(Clone, Debug, Subcommand)]
pub enum ImageCommand {
    /// List the cloud's images.
    #[command(after_help = "Examples:\n  nephos image list\n  nephos image list --json | jq -r '.[].id'")]
    List(Show),
    /// Build an image of a distribution's packages, and put it into the cloud: a few minutes and 1 GiB.
    #[command(after_help = "Examples:\n  nephos image import debian-12\n  \
        nephos image import debian-12 --mirror http://deb.debian.org/debian")]
    Import {
        /// Which.
        #[arg(value_enum)]
        distribution: Distribution,
        /// Where packages are fetched from [default: Debian's mirrors, with its security updates].
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
        #[command(flatten)]
        at: At,
    },
}

/// What an image can be built of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Distribution {
    /// Debian 12 (bookworm) with cloud-init.
    #[value(name = "debian-12")]
    Debian12,
}

/// A role's process.
#[derive(Clone, Debug, Args)]
pub struct Role {
    /// Its config (TOML).
    #[arg(long)]
    pub config: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}

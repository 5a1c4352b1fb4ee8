//! `envi`: the program and the machine it runs on.

use std::env;
use std::fs;

use super::server::VERSION;

/// Facts about the process, taken once at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Name of the machine.
    pub host_name: String,
    /// Operating system, as Java names it: `Linux`.
    pub os_name: String,
    /// Processor, as Java names it: `amd64`, `aarch64`.
    pub os_arch: String,
    /// Version of the kernel.
    pub os_version: String,
    /// User the process runs as.
    pub user_name: String,
    /// That user's home directory.
    pub user_home: String,
    /// Working directory.
    pub user_dir: String,
    /// Directory for temporary files.
    pub tmp_dir: String,
}

/// Memory in MiB. ZooKeeper gives its Java heap here; Ostler has no heap of fixed size and gives the machine's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What the machine could still give out.
    pub free_mib: u64,
    /// What the machine has.
    pub max_mib: u64,
    /// What this process uses.
    pub total_mib: u64,
}

/// Value of the keys that only a Java program has. The keys stay, for tools that read them by position.
const NO_JVM: &str = "none (ostler is not a JVM program)";

impl Environment {
    /// Reads the facts of this process; what cannot be read is `unknown`.
    pub fn of_this_process() -> Environment {
        let variable = |name: &str| env::var(name).unwrap_or_else(|_| unknown());
        let directory = |path: std::io::Result<std::path::PathBuf>| {
            path.map_or_else(|_| unknown(), |path| path.display().to_string())
        };
        Environment {
            host_name: first_line("/proc/sys/kernel/hostname"),
            os_name: if cfg!(target_os = "linux") { "Linux" } else { env::consts::OS }.to_owned(),
            os_arch: if cfg!(target_arch = "x86_64") { "amd64" } else { env::consts::ARCH }.to_owned(),
            os_version: first_line("/proc/sys/kernel/osrelease"),
            user_name: variable("USER"),
            user_home: variable("HOME"),
            user_dir: directory(env::current_dir()),
            tmp_dir: env::temp_dir().display().to_string(),
        }
    }
}

impl Memory {
    /// Reads the figures of this moment from `/proc`; 0 where there is none.
    pub fn now() -> Memory {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let machine = read("/proc/meminfo");
        Memory {
            free_mib: field_kib(&machine, "MemAvailable:") >> 10,
            max_mib: field_kib(&machine, "MemTotal:") >> 10,
            total_mib: field_kib(&read("/proc/self/status"), "VmRSS:") >> 10,
        }
    }
}

/// Text of `envi`.
pub fn envi(environment: &Environment, memory: Memory) -> String {
    let Environment { host_name, os_name, os_arch, os_version, user_name, user_home, user_dir, tmp_dir } =
        environment;
    let Memory { free_mib, max_mib, total_mib } = memory;
    format!(
        "Environment:\nzookeeper.version={VERSION}\nhost.name={host_name}\njava.version={NO_JVM}\n\
         java.vendor={NO_JVM}\njava.home={NO_JVM}\njava.class.path={NO_JVM}\njava.library.path={NO_JVM}\n\
         java.io.tmpdir={tmp_dir}\njava.compiler={NO_JVM}\nos.name={os_name}\nos.arch={os_arch}\n\
         os.version={os_version}\nuser.name={user_name}\nuser.home={user_home}\nuser.dir={user_dir}\n\
         os.memory.free={free_mib}MB\nos.memory.max={max_mib}MB\nos.memory.total={total_mib}MB\n"
    )
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().filter(|line| !line.is_empty()).map_or_else(unknown, str::to_owned)
}

/// The number after `name` in a file of `/proc` whose lines look like `Name:   123 kB`.
fn field_kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envi_has_zookeepers_keys() {
        let here = Environment {
            host_name: "zk1".into(),
            os_name: "Linux".into(),
            os_arch: "amd64".into(),
            os_version: "6.1.0".into(),
            user_name: "ostler".into(),
            user_home: "/home/ostler".into(),
            user_dir: "/srv".into(),
            tmp_dir: "/tmp".into(),
        };
        assert_eq!(
            envi(&here, Memory { free_mib: 1, max_mib: 2, total_mib: 3 }),
            format!(
                "Environment:\nzookeeper.version={VERSION}\nhost.name=zk1\n\
                 java.version=none (ostler is not a JVM program)\njava.vendor=none (ostler is not a JVM program)\n\
                 java.home=none (ostler is not a JVM program)\njava.class.path=none (ostler is not a JVM program)\n\
                 java.library.path=none (ostler is not a JVM program)\njava.io.tmpdir=/tmp\n\
                 java.compiler=none (ostler is not a JVM program)\nos.name=Linux\nos.arch=amd64\n\
                 os.version=6.1.0\nuser.name=ostler\nuser.home=/home/ostler\nuser.dir=/srv\n\
                 os.memory.free=1MB\nos.memory.max=2MB\nos.memory.total=3MB\n"
            )
        );
    }

    #[test]
    fn proc_files_are_read_or_count_as_nothing() {
        assert_eq!(field_kib("MemTotal:   2048 kB\nMemFree: 7 kB\n", "MemTotal:"), 2048);
        assert_eq!(field_kib("MemTotal: much\n", "MemTotal:"), 0);
        assert_eq!(field_kib("", "MemTotal:"), 0);
        assert_eq!(first_line("/nonexistent"), "unknown");
        assert!(!envi(&Environment::of_this_process(), Memory::now()).contains("=\n"));
    }
}

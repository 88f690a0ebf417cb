//! What Linux tells of processes, of this one, and of the machine.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::clock;
use crate::error::BenchError;
use crate::report::{GeneratorUse, Machine, ProcessUse};

/// Files that the process has open beside its connections.
const OTHER_FILES: u64 = 64;

/// Size of a page of memory, KiB.
const PAGE_KIB: u64 = 4;

/// The most processors that are counted when they are shared out: as many threads or processes are the most that one may ask for.
const PROCESSORS_MAX: usize = 64;

/// Raises the soft limit of open files to the hard one, as far as the system lets us.
pub(crate) fn raise_open_files() {
    let mut limit = open_files();
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid rlimit.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
}

/// Refuses more connections than this process may open.
pub(crate) fn check_open_files(wanted: usize) -> Result<(), BenchError> {
    let limit = open_files().rlim_cur;
    if wanted as u64 + OTHER_FILES > limit {
        return Err(BenchError::OpenFiles { wanted, limit });
    }
    Ok(())
}

fn open_files() -> libc::rlimit {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for one rlimit; the resource exists on every Linux.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit
}

/// The machine that this runs on; what cannot be found out stays empty.
pub(crate) fn machine() -> Machine {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        cpu: field(&cpuinfo, "model name").unwrap_or_default().to_owned(),
        cores: cores(),
        memory_mib: field(&meminfo, "MemTotal")
            .and_then(kib)
            .unwrap_or_default()
            / 1024,
        kernel: kernel.trim().to_owned(),
    }
}

/// How this program was built.
pub(crate) fn build() -> &'static str {
    if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    }
}

/// Processes that wanted a processor, on average over the last minute; 0 when the system does not tell.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next();
    first.and_then(|load| load.parse().ok()).unwrap_or_default()
}

/// Memory that can be had without swapping, MiB.
pub(crate) fn available_memory_mib() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    field(&meminfo, "MemAvailable").and_then(kib).unwrap_or(0) / 1024
}

/// Memory that the kernel holds for its own objects and for the buffers of TCP sockets, KiB.
pub(crate) fn kernel_memory_kib() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let slab = field(&meminfo, "Slab").and_then(kib).unwrap_or(0);
    let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    slab + tcp_pages(&sockstat) * PAGE_KIB
}

/// The pages of TCP buffers, the last number of its line.
fn tcp_pages(sockstat: &str) -> u64 {
    let numbers = field(sockstat, "TCP").unwrap_or_default();
    let mut words = numbers.split(' ').skip_while(|word| *word != "mem").skip(1);
    words
        .next()
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0)
}

/// Files that one process may have open.
pub(crate) fn open_files_max() -> u64 {
    open_files().rlim_max
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How many of the machine's processors each of `sharers` has, when they share them all: at least 1, and at most
/// [`PROCESSORS_MAX`].
pub(crate) fn processors_shared(sharers: usize) -> usize {
    (cores() / sharers.max(1)).clamp(1, PROCESSORS_MAX)
}

/// Whether what is written below `path` stays in memory, so that making it durable costs next to nothing.
pub(crate) fn is_in_memory(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    matches!(file_system(&mounts, &path), Some("tmpfs" | "ramfs"))
}

/// The kind of the file system that `path` is on; of several mounted at one place the last one counts.
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?;
        path.starts_with(place)
            .then_some((place.len(), fields.next()?))
    });
    mounts
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind)
}

/// The observed processes at one moment.
#[derive(Debug)]
pub(crate) struct Sample {
    at: u64,
    processes: Vec<Option<Process>>,
    own: Vec<(u64, f64)>,
}

#[derive(Debug, Clone, Default)]
struct Process {
    ended: bool,
    name: String,
    cpu_seconds: f64,
    rss_kib: u64,
    rss_peak_kib: u64,
    context_switches: u64,
}

impl Sample {
    /// Looks at `pids` and at this process.
    pub(crate) fn take(pids: &[u32]) -> Self {
        let tree = if pids.is_empty() {
            HashMap::new()
        } else {
            children()
        };
        Self {
            at: clock::now(),
            processes: pids
                .iter()
                .map(|&pid| observe_tree(pid, &tree).ok())
                .collect(),
            own: own_threads(),
        }
    }

    /// Looks for the first time: every one of `pids` must be there.
    pub(crate) fn first(pids: &[u32]) -> Result<Self, BenchError> {
        for &pid in pids {
            observe_living(pid).map_err(|source| BenchError::Process { pid, source })?;
        }
        Ok(Self::take(pids))
    }

    /// Resident memory of all observed processes, KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        self.processes
            .iter()
            .flatten()
            .map(|process| process.rss_kib)
            .sum()
    }

    /// What each process used from this sample to `later`.
    pub(crate) fn processes_until(&self, later: &Self, pids: &[u32]) -> Vec<ProcessUse> {
        let window = clock::between(self.at, later.at).as_secs_f64();
        let pairs = self.processes.iter().zip(&later.processes).zip(pids);
        pairs
            .map(|((before, after), &pid)| {
                let before = before.clone().unwrap_or_default();
                let gone = after.is_none();
                let after = after.clone().unwrap_or_else(|| before.clone());
                let cpu_seconds = (after.cpu_seconds - before.cpu_seconds).max(0.0);
                ProcessUse {
                    pid,
                    label: None,
                    name: after.name,
                    cpu_seconds,
                    cpu_share: if window > 0.0 {
                        cpu_seconds / window
                    } else {
                        0.0
                    },
                    rss_before_kib: before.rss_kib,
                    rss_after_kib: after.rss_kib,
                    rss_peak_kib: after.rss_peak_kib,
                    context_switches: after
                        .context_switches
                        .saturating_sub(before.context_switches),
                    gone,
                }
            })
            .collect()
    }

    /// What the generator used from this sample to `later`.
    pub(crate) fn generator_until(&self, later: &Self) -> GeneratorUse {
        let window = clock::between(self.at, later.at).as_secs_f64();
        let before: HashMap<u64, f64> = self.own.iter().copied().collect();
        let used = later
            .own
            .iter()
            .map(|(thread, cpu)| (cpu - before.get(thread).unwrap_or(&0.0)).max(0.0));
        let (sum, busiest) = used.fold((0.0, 0.0_f64), |(sum, busiest), cpu| {
            (sum + cpu, busiest.max(cpu))
        });
        let share = |cpu: f64| if window > 0.0 { cpu / window } else { 0.0 };
        GeneratorUse {
            window_seconds: window,
            cpu_seconds: sum,
            machine_share: share(sum) / cores() as f64,
            busiest_thread_share: share(busiest),
        }
    }
}

/// Adds up what several processes used.
pub(crate) fn total_cpu_seconds(processes: &[ProcessUse]) -> f64 {
    processes.iter().map(|process| process.cpu_seconds).sum()
}

/// A process together with everything it has started.
fn observe_tree(root: u32, children: &HashMap<u32, Vec<u32>>) -> io::Result<Process> {
    let mut all = observe_living(root)?;
    let mut waiting: Vec<u32> = children.get(&root).cloned().unwrap_or_default();
    while let Some(pid) = waiting.pop() {
        // A child may end at any moment; its time is then its parent's.
        if let Ok(child) = observe(pid) {
            all.cpu_seconds += child.cpu_seconds;
            all.rss_kib += child.rss_kib;
            all.context_switches += child.context_switches;
            waiting.extend(children.get(&pid).into_iter().flatten());
        }
    }
    Ok(all)
}

/// A process that still runs: one that has ended stays visible until its parent has asked how.
fn observe_living(pid: u32) -> io::Result<Process> {
    let process = observe(pid)?;
    if process.ended {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it has ended"));
    }
    Ok(process)
}

fn observe(pid: u32) -> io::Result<Process> {
    let stat = Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat"))?)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mut context_switches = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        for name in ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"] {
            context_switches += field(&status, name)
                .and_then(|count| count.parse().ok())
                .unwrap_or(0);
        }
    }
    Ok(Process {
        ended: stat.ended,
        name: stat.name,
        cpu_seconds: stat.cpu_seconds,
        rss_kib: field(&status, "VmRSS").and_then(kib).unwrap_or(0),
        rss_peak_kib: field(&status, "VmHWM").and_then(kib).unwrap_or(0),
        context_switches,
    })
}

/// Children of every process.
pub(crate) fn children() -> HashMap<u32, Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat =
            fs::read_to_string(entry.path().join("stat")).and_then(|stat| Stat::parse(&stat));
        if let Ok(stat) = stat {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    children
}

/// Processor time of each thread of this process, in seconds.
fn own_threads() -> Vec<(u64, f64)> {
    let tasks = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let threads = tasks.filter_map(|task| {
        let thread = task.file_name().to_str()?.parse().ok()?;
        // Nanoseconds on the processor come first.
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let on_cpu: f64 = text.split(' ').next()?.parse().ok()?;
        Some((thread, on_cpu / 1e9))
    });
    threads.collect()
}

struct Stat {
    ended: bool,
    name: String,
    parent: u32,
    cpu_seconds: f64,
}

impl Stat {
    /// Reads `/proc/PID/stat`. The name stands in parentheses and may hold anything, parentheses included.
    fn parse(text: &str) -> io::Result<Self> {
        let broken = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "a process status that cannot be read",
            )
        };
        let open = text.find('(').ok_or_else(broken)?;
        let close = text.rfind(')').ok_or_else(broken)?;
        let name = text.get(open + 1..close).ok_or_else(broken)?.to_owned();
        let fields: Vec<&str> = text[close + 1..].split_whitespace().collect();
        let number = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<i64>().ok())
                .ok_or_else(broken)
        };
        // After the name: state, parent, …; user, system, and both of ended children are fields 14 to 17 of the whole.
        let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
        // SAFETY: no memory is involved.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1);
        Ok(Self {
            ended: fields.first() == Some(&"Z"),
            name,
            parent: number(1)? as u32,
            cpu_seconds: ticks as f64 / per_second as f64,
        })
    }
}

/// The value of `name: value` in one of the files of /proc.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

/// `1234 kB` as a number.
fn kib(text: &str) -> Option<u64> {
    text.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_strange_name_is_read() {
        let text = "42 (a) (b c) S 7 42 42 0 -1 4194560 1 2 3 4 100 50 25 25 20 0 1 0 5 6 7";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent), ("a) (b c", 7));
        assert!(stat.cpu_seconds > 0.0);
        assert!(!stat.ended);
        assert!(Stat::parse("42 nothing").is_err());
        assert!(Stat::parse(") (").is_err());
    }

    #[test]
    fn this_process_is_seen_working() {
        let pids = [std::process::id()];
        let before = Sample::first(&pids).unwrap();
        let mut after = Sample::take(&pids);
        let mut sum = 0_u64;
        // Until the kernel has counted some of it.
        while before.processes_until(&after, &pids)[0].cpu_seconds == 0.0 {
            sum = (0..1_000_000).fold(sum, |sum, i| std::hint::black_box(sum.wrapping_add(i)));
            after = Sample::take(&pids);
        }
        let used = &before.processes_until(&after, &pids)[0];
        assert!(
            used.cpu_seconds > 0.0 && used.rss_after_kib > 0 && !used.gone,
            "{used:?} {sum}"
        );
        assert!(before.generator_until(&after).cpu_seconds > 0.0);
        assert!(after.rss_kib() > 0);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error_at_first_and_gone_later() {
        let nobody = [u32::MAX];
        assert!(matches!(
            Sample::first(&nobody),
            Err(BenchError::Process { .. })
        ));
        let sample = Sample::take(&nobody);
        assert!(sample.processes_until(&sample, &nobody)[0].gone);
    }

    #[test]
    fn a_child_that_ended_and_was_not_waited_for_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pids = [child.id()];
        // It stays visible until the wait below.
        while Sample::take(&pids).processes[0].is_some() {
            std::thread::yield_now();
        }
        assert!(observe(child.id()).unwrap().ended);
        assert!(Sample::first(&pids).is_err());
        child.wait().unwrap();
    }

    #[test]
    fn the_file_system_of_a_path_is_the_nearest_and_latest_mount() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\n\
                      none /srv ext4 rw 0 0\nnone /srv ramfs rw 0 0\n";
        let kind = |path| file_system(mounts, Path::new(path));
        assert_eq!(kind("/tmp/x"), Some("tmpfs"));
        assert_eq!(kind("/tmp/disk/x"), Some("xfs"));
        assert_eq!(kind("/tmpx"), Some("ext4"));
        assert_eq!(kind("/srv/x"), Some("ramfs"));
        assert!(!is_in_memory(Path::new("/proc")));
    }

    #[test]
    fn what_sockets_hold_is_read() {
        let text =
            "sockets: used 300\nTCP: inuse 5 orphan 0 tw 0 alloc 6 mem 17\nUDP: inuse 1 mem 2\n";
        assert_eq!(tcp_pages(text), 17);
        assert_eq!(tcp_pages(""), 0);
        assert!(kernel_memory_kib() > 0 && available_memory_mib() > 0);
    }

    #[test]
    fn the_machine_is_described() {
        let machine = machine();
        assert!(
            machine.cores > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty(),
            "{machine:?}"
        );
        assert!(check_open_files(usize::MAX >> 8).is_err());
        assert!(check_open_files(1).is_ok());
    }
}

//! A child process, what it costs, and its end.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::Failure;

/// How long a peer may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Who takes less than a twentieth of a core for this long has nothing left to do.
const QUIET: Duration = Duration::from_millis(400);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// A running child; dropping it ends it and the children it has itself, by their ids, and no other.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command`, what it says going to a file, and waits until it listens on `address`.
    ///
    /// # Errors
    /// When it cannot be started, or ends or stays silent instead of listening; with what it said.
    pub fn start(command: &mut Command, log: &Path, address: SocketAddr) -> Result<Self, Failure> {
        let output = File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut running = Self { child: command.spawn()?, log: log.to_owned() };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if running.child.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                return Err(format!("it does not listen; it said: {}", running.said()).into());
            }
            thread::sleep(PAUSE);
        }
        Ok(running)
    }

    /// CPU time of it and its children, user and system, since they began. Counted in ticks, usually of 10 ms.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu(&self) -> io::Result<Duration> {
        let ticks = self.tree().into_iter().map(ticks).sum::<io::Result<u64>>()?;
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_millis(ticks.saturating_mul(1000) / per_second.max(1)))
    }

    /// Waits until it does nothing any more: what it began for its clients goes on after they have their bytes. Not for ever.
    ///
    /// # Errors
    /// When it is gone.
    pub fn settle(&self) -> io::Result<()> {
        let (begun, mut before) = (Instant::now(), self.cpu()?);
        while begun.elapsed() < PATIENCE {
            thread::sleep(QUIET);
            let now = self.cpu()?;
            if now.saturating_sub(before) <= QUIET / 20 {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// The most memory that it and its children had resident since [`Self::forget_peak`], in bytes; their peaks added up.
    ///
    /// # Errors
    /// When it is gone.
    pub fn peak_memory(&self) -> io::Result<u64> {
        self.tree().into_iter().map(peak).sum()
    }

    /// From here on only new peaks count.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn forget_peak(&self) -> io::Result<()> {
        self.tree().into_iter().try_for_each(|id| fs::write(format!("/proc/{id}/clear_refs"), "5"))
    }

    /// It, and its children: nginx does its work in them.
    fn tree(&self) -> Vec<u32> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        std::iter::once(id).chain(children).collect()
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn terminate(&mut self) -> io::Result<()> {
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(id, Signal::TERM)?;
        }
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > PATIENCE {
                self.child.kill()?;
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody is left to tell; what still runs is ours alone, and ends with this process' terminal at the latest.
        let _ = self.terminate();
    }
}

/// A port that nobody listens on now.
///
/// # Errors
/// When the system has none.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn ticks(id: u32) -> io::Result<u64> {
    fs::read_to_string(format!("/proc/{id}/stat")).map(|stat| ticks_in(&stat).unwrap_or_default())
}

/// User and system time in a line of `/proc/<id>/stat`: the 14th and 15th field. The second may contain anything, in brackets.
fn ticks_in(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

fn peak(id: u32) -> io::Result<u64> {
    fs::read_to_string(format!("/proc/{id}/status")).map(|status| peak_in(&status).unwrap_or_default())
}

/// `VmHWM` of `/proc/<id>/status`, in bytes.
fn peak_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_move_the_fields() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0";
        assert_eq!(ticks_in(stat), Some(42));
        assert_eq!(ticks_in("7 (cut) S 1 2"), None);
    }

    #[test]
    fn the_peak_is_read_in_bytes() {
        assert_eq!(peak_in("Name:\tx\nVmHWM:\t    5120 kB\nVmRSS:\t 1 kB\n"), Some(5120 * 1024));
        assert_eq!(peak_in("VmRSS:\t 1 kB\n"), None);
    }
}

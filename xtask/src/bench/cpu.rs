//! The CPU time that a process has used.

use super::Result;
use std::path::Path;
use std::time::Duration;

/// The time that the threads of the process have spent on a CPU, user and system together.
///
/// It is the sum of the first field of `/proc/PID/task/*/schedstat`, which the scheduler keeps in
/// nanoseconds. `utime` and `stime` of `/proc/PID/stat` are cut to hundredths of a second: 3 % of
/// what a slice of a second measures, 10 % of a quick one. Two things to know:
///
/// - a thread that runs right now is up to one timer tick behind, so this is read while the server
///   is idle: before a slice, and after the last answer of one;
/// - a thread that has ended no longer counts; the servers' worker threads live to the end.
pub(crate) fn used(pid: u32) -> Result<Duration> {
    let tasks = Path::new("/proc").join(pid.to_string()).join("task");
    let mut nanos = 0;
    for task in std::fs::read_dir(&tasks).map_err(|error| format!("{}: {error}", tasks.display()))? {
        let Ok(schedstat) = std::fs::read_to_string(task?.path().join("schedstat")) else {
            continue; // The thread has just ended.
        };
        nanos += first_number(&schedstat).ok_or("schedstat does not begin with a number")?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted() {
        let before = used(std::process::id()).unwrap();
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        // Less than was spun: another process may have had the CPU meanwhile.
        assert!(used(std::process::id()).unwrap() > before + Duration::from_millis(5));
    }
}

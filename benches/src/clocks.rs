//! Time on the wall and time on the processor.
//!
//! A ratio of wall times says what somebody who waits notices, and changes with whatever else the machine does. A ratio
//! of processor times says what the code costs, and hardly does.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// From the start to the end.
    Wall,
    /// All threads of this process together, in the kernel too.
    Cpu,
}

impl Clock {
    /// Its name in a report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wall => "wall",
            Self::Cpu => "CPU",
        }
    }
}

/// What something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// On the wall.
    pub wall: Duration,
    /// On the processor.
    pub cpu: Duration,
}

impl Spent {
    /// What this work takes.
    pub fn on<T>(work: impl FnOnce() -> T) -> Self {
        let watch = Stopwatch::start();
        // Kept until the clocks have stopped, so that dropping it is not counted.
        let _made = std::hint::black_box(work());
        watch.stop()
    }

    /// On one of the clocks.
    pub const fn by(self, clock: Clock) -> Duration {
        match clock {
            Clock::Wall => self.wall,
            Clock::Cpu => self.cpu,
        }
    }
}

/// Both clocks, running.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    wall: Instant,
    cpu: Duration,
}

impl Stopwatch {
    /// Starts both.
    pub fn start() -> Self {
        Self { wall: Instant::now(), cpu: processor() }
    }

    /// What has passed.
    pub fn stop(self) -> Spent {
        Spent { cpu: processor().saturating_sub(self.cpu), wall: self.wall.elapsed() }
    }
}

fn processor() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.try_into().expect("a process has not used less than no time")
}

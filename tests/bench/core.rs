//! Which core does what: the Envoys share one, all else has the other, so that neither disturbs what is measured.

use std::process::{self, Command, Stdio};

/// A core of the machine, by its number in Linux.
#[derive(Clone, Copy)]
pub(crate) struct Core(u8);

/// Where the program, its upstream and the load generator run.
pub(crate) const LOADER: Core = Core(0);

/// Where the Envoys run.
pub(crate) const ENVOYS: Core = Core(1);

impl Core {
    /// Moves the main thread there. Threads and processes that it starts from now on run there too; those that it
    /// started before stay where they are.
    pub(crate) fn take(self) {
        let status = Command::new("taskset")
            // The process id is that of the main thread.
            .args(["--cpu-list", "--pid", &self.0.to_string(), &process::id().to_string()])
            .stdout(Stdio::null())
            .status()
            .expect("taskset (package util-linux) can be started");
        assert!(status.success(), "core {} cannot be used: the bench needs a machine with two cores", self.0);
    }
}

//! Everything that was measured, as it is kept in `results.json`: raw numbers, from which the report is made.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::plan::Plan;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) plan: Plan,
    /// How long the run took.
    pub(crate) run_seconds: u64,
    pub(crate) variants: Vec<Measured>,
    pub(crate) instructions: Vec<Instructions>,
    pub(crate) workers: Vec<Workers>,
    pub(crate) starts: Vec<Start>,
    pub(crate) modules: Vec<Module>,
}

/// Where, when and with what it was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    /// The last commit; `-dirty` if files had changed since.
    pub(crate) commit: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) envoy: String,
    pub(crate) loader: String,
    /// The load of the machine over the last minute when the run began: what others did at that time.
    pub(crate) load_before: f64,
}

/// A variant, by one number per round.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) shows: String,
    /// Processor time of the whole Envoy process per request.
    pub(crate) cpu_ns: Vec<f64>,
    /// Processor time of that process by time that passed, in the middle round: 1 is a core that was always busy.
    pub(crate) busy: f64,
    pub(crate) p50_us: Vec<f64>,
    pub(crate) p99_us: Vec<f64>,
    /// Resident memory of the process after all that.
    pub(crate) resident_kib: u64,
}

/// A variant that forwards, by how many instructions all of Envoy carries out for a request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Instructions {
    pub(crate) name: String,
    pub(crate) per_request: f64,
}

/// The memory of a proxy by its number of workers, one number per repetition.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Workers {
    pub(crate) name: String,
    pub(crate) one_kib: Vec<f64>,
    pub(crate) four_kib: Vec<f64>,
}

/// How long a change took from being published until requests were served by it, one number per repetition.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) name: String,
    pub(crate) ms: Vec<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

impl Results {
    /// JSON with a line for each member, and one for each list of numbers.
    pub(crate) fn to_json(&self) -> String {
        let mut bytes = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut bytes, ListsInLines(PrettyFormatter::new()));
        self.serialize(&mut serializer).expect("results are plain data");
        bytes.push(b'\n');
        String::from_utf8(bytes).expect("JSON is UTF-8")
    }

    pub(crate) fn from_json(text: &str) -> Self {
        serde_json::from_str(text).expect("results.json is what a run of the bench wrote")
    }
}

/// Pretty objects and plain lists: a list of 150 numbers is no help in a diff when it has 150 lines.
struct ListsInLines<'a>(PrettyFormatter<'a>);

impl Formatter for ListsInLines<'_> {
    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

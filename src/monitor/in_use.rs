//! Which configured things are in use: gauges that are 1 while some configuration of the proxy has them.
//!
//! What others use is known by the [record](uses) that all workers share, whichever module they run. It says of breakers too
//! that they are configured: what shows their state goes back to 0 when the last configuration with them has gone.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::cx::Cx;
use crate::host::HostError;
use crate::shared::roster::WorkerId;
use crate::shared::uses::{self, BEAT, Standing};
use crate::sorted::SortedMap;
use crate::time::Timestamp;

/// What the root contexts of one worker use, by the name of the gauge that says so.
///
/// The gauges are set, never stepped, and set again with every beat: after a hot restart the new process starts with the
/// old one's values, and a module of an earlier release, or one under another VM id, cleans up what it does not share.
#[derive(Debug, Default)]
pub struct InUse {
    /// By the name of the gauge. In order, so that thousands of breakers are no work for each other.
    uses: RefCell<SortedMap<String, Count>>,
    /// Gauges of things that are switched off, which are to be seen at 0.
    off: RefCell<Vec<String>>,
    /// What this worker is called by the others, once it has said anything.
    me: Cell<Option<WorkerId>>,
    said: Cell<Option<Timestamp>>,
}

/// The gauges that a configuration has a say in.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    uses: Vec<Use>,
    off: Vec<String>,
}

impl Gauges {
    /// With one that shows that something is in use.
    pub fn on(&mut self, gauge: String) {
        self.uses.push(Use { gauge, shows: Shows::Use });
    }

    /// With one of something that is switched off.
    pub fn off(&mut self, gauge: String) {
        self.off.push(gauge);
    }

    /// With one that shows a state, which its owner sets.
    pub fn state(&mut self, gauge: String) {
        self.uses.push(Use { gauge, shows: Shows::State });
    }
}

/// One root context's use of a gauge.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Use {
    gauge: String,
    shows: Shows,
}

/// How many root contexts use a gauge.
#[derive(Clone, Copy, Debug)]
struct Count {
    shows: Shows,
    uses: usize,
}

/// What a gauge shows while it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    /// That it is in use: 1.
    Use,
    /// A state that its owner sets.
    State,
}

impl InUse {
    /// A root context took up the configuration. That is shown by the next [`InUse::show`]: configurations are taken up in
    /// throw-away machines too, and those have no next callback.
    pub fn take_up(&self, gauges: Gauges) {
        let mut uses = self.uses.borrow_mut();
        for Use { gauge, shows } in gauges.uses {
            let before = uses.get(&gauge).map_or(0, |it| it.uses);
            uses.insert(gauge, Count { shows, uses: before + 1 });
        }
        drop(uses);
        self.off.borrow_mut().extend(gauges.off);
        self.said.set(None);
    }

    /// Shows what is in use, if that was not done lately. Returns when to do so again, `None` if there is no need.
    pub fn show(&self, cx: &Cx<'_>) -> Option<Duration> {
        let now = cx.now();
        let age = self.said.get().filter(|said| *said <= now).map(|said| now.saturating_since(said));
        if age.is_none_or(|age| BEAT <= age) {
            cx.report(self.say(cx));
        }
        let rest = age.and_then(|age| BEAT.checked_sub(age)).filter(|rest| !rest.is_zero());
        (!self.uses.borrow().is_empty()).then_some(rest.unwrap_or(BEAT))
    }

    /// A root context that had taken up the configuration is gone.
    pub fn give_up(&self, cx: &Cx<'_>, gauges: Gauges) {
        let mut uses = self.uses.borrow_mut();
        for Use { gauge, shows } in gauges.uses {
            match uses.get(&gauge).map_or(0, |it| it.uses) {
                0 => {}
                1 => drop(uses.remove(&gauge)),
                more => uses.insert(gauge, Count { shows, uses: more - 1 }),
            }
        }
        drop(uses);
        if self.me.get().is_some() {
            cx.report(self.say(cx));
        }
    }

    /// Tells the others, and sets all gauges that this worker has a say in.
    fn say(&self, cx: &Cx<'_>) -> Result<(), HostError> {
        let now = cx.now();
        self.said.set(Some(now));
        let standing = self.sign(cx);
        for (gauge, _) in self.uses.borrow().iter().filter(|(_, it)| it.shows == Shows::Use) {
            cx.set(gauge.clone(), 1)?;
        }
        let Standing { used, mut left } = standing?;
        left.append(&mut self.off.take());
        for gauge in left {
            if used.get(&gauge).is_none() {
                cx.set(gauge, 0)?;
            }
        }
        Ok(())
    }

    fn sign(&self, cx: &Cx<'_>) -> Result<Standing, HostError> {
        let names: Vec<String> = self.uses.borrow().iter().map(|(gauge, _)| gauge.clone()).collect();
        if names.is_empty() && self.off.borrow().is_empty() && self.me.get().is_none() {
            return Ok(Standing::default());
        }
        let me = match self.me.get() {
            Some(me) => me,
            None => WorkerId::draw(cx)?,
        };
        let standing = uses::sign(cx, me, &names)?;
        self.me.set(Some(me));
        Ok(standing)
    }
}

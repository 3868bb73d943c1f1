//! What a worker keeps of retries.

use std::cell::RefCell;
use std::rc::Rc;

use crate::cx::Cx;
use crate::retry::attendance::Attendance;
use crate::retry::budget::Account;
use crate::retry::register::Register;
use crate::retry::sharers::Sharers;
use crate::retry::usual::UsualTime;
use crate::shared::by_key::ByKey;
use crate::shared::roster::Roster;

/// How long requests of operations take, by scope and name of the operation.
pub type UsualTimes = ByKey<RefCell<UsualTime>>;

/// The retries of one worker. Outlives configurations.
#[derive(Debug)]
pub struct Store {
    /// What this worker has of retry budgets.
    pub accounts: ByKey<RefCell<Account>>,
    /// Among how many workers those are divided.
    pub census: Rc<Census>,
    /// Whether the attempts of rules' requests are seen one by one.
    pub attendances: ByKey<Attendance>,
    /// The requests whose attempts may be, and who is there to see them.
    pub register: Rc<Register>,
    /// How long requests of operations take.
    pub usual_times: Rc<UsualTimes>,
}

impl Store {
    /// An empty one of a worker that shares with those on the roster.
    pub fn new(roster: &Rc<Roster>) -> Self {
        Self {
            accounts: ByKey::default(),
            census: Rc::new(Census { sharers: Sharers::default(), roster: Rc::clone(roster) }),
            attendances: ByKey::default(),
            register: Rc::default(),
            usual_times: Rc::default(),
        }
    }
}

/// The workers that share what is the sidecar's.
#[derive(Debug)]
pub struct Census {
    sharers: Sharers,
    roster: Rc<Roster>,
}

impl Census {
    /// Counts them, this one included, which says that it is one of them. If that cannot be told, there are as many as there were.
    pub fn count(&self, cx: &Cx<'_>) -> u32 {
        cx.report(self.roster.sign(cx).map(|_| ()));
        self.sharers.count(self.roster.alive(), cx.now())
    }

    /// How many there were when they were last counted.
    pub fn last(&self) -> u32 {
        self.sharers.last()
    }
}

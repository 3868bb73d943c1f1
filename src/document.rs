//! Reading a document by tables, for any policy and knowing none.
//!
//! ```text
//! bytes ─▶ json: a tree of nodes ─▶ check: against tables of fields ─▶ sections: values that are good
//! ```
//!
//! * [`json`] makes a tree of [`node`]s: members in order, those given twice too, numbers as they were written.
//! * [`field`] is what a section is described by, once: a [`Table`] of fields with type, range and default. Natively each has a
//!   sentence too, from which the schema and the reference's tables are made; the shipped module has none of that.
//! * [`check`] holds the whole tree against the tables, and tells of every place that is not as they say.
//! * [`section`] is the cursor by which a policy reads its part: what it gets is good by itself, and it tells of what contradicts
//!   something else.
//! * [`names`] is who refers to whom; [`error`], what is told of all this.
//!
//! None of it is generic, and every text of an error is made in one place: a reader that is made once for each type is what makes
//! modules large.

pub mod check;
pub mod duration;
pub mod error;
pub mod field;
pub mod json;
pub mod names;
pub mod node;
pub mod number;
pub mod place;
pub mod section;
pub mod shown;
pub mod suggestion;
pub mod texts;

pub use error::{ConfigError, ConfigErrors};
pub use field::{Absence, Field, Kind, ListType, Table, TextType};
pub use names::Names;
pub use section::Section;
pub use shown::quoted;

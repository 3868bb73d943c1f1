//! What a section is described by, once.
//!
//! A [`Table`] parses, refuses, and yields the JSON Schema and the reference's tables. Sentences, patterns and whatever else only
//! the latter need are not in the shipped module: the macro `field!` drops them.

/// The most elements of a list, unless its type says otherwise.
pub const MOST_ELEMENTS: usize = 10_000;

/// The fields of an object, in the order of the reference. Any other field is refused.
#[derive(Debug)]
pub struct Table {
    /// The fields.
    pub fields: &'static [Field],
}

/// A field of an object.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What it means to leave it out.
    pub absence: Absence,
    /// Whether it is read and nobody should learn of it: an old spelling.
    pub hidden: bool,
    /// What it means, in Markdown.
    #[cfg(not(target_arch = "wasm32"))]
    pub says: &'static str,
}

/// What it means to leave a field out, or to say `null`.
#[derive(Clone, Copy, Debug)]
pub enum Absence {
    /// It must not be; then `null` is a value of the wrong type.
    Required,
    /// What these words say.
    Else(Words),
    /// This number.
    Whole(u32),
    /// This number.
    Number(f64),
    /// This duration, in milliseconds.
    Span(u64),
    /// This.
    Bool(bool),
    /// This word.
    Word(&'static str),
}

/// Words of the reference: nothing in the shipped module.
#[cfg(not(target_arch = "wasm32"))]
pub type Words = &'static str;
/// Words of the reference: nothing in the shipped module.
#[cfg(target_arch = "wasm32")]
pub type Words = ();

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number, both bounds included. Istio turns numbers into doubles, so `5.0` is 5.
    Whole(u32, u32),
    /// A number, both bounds included.
    Number(f64, f64),
    /// A number above 0 and at most 1.
    Ratio,
    /// A duration in milliseconds, both bounds included.
    Span(u64, u64),
    /// `true` or `false`.
    Bool,
    /// `true`, `false` or one of these words.
    BoolOr(&'static [&'static str]),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text.
    Text(&'static TextType),
    /// A whole number as above, or a text.
    WholeOr(u32, u32, &'static TextType),
    /// A list.
    List(&'static ListType),
    /// An object with the fields of the table.
    Object(&'static Table),
    /// An object of texts by any names, so many at most.
    Texts(usize),
    /// Any JSON without two members of one name in an object.
    Json,
}

/// What a text may be.
#[derive(Debug)]
pub struct TextType {
    /// Finds the rule that a text breaks, to follow the text in an error: `must be …`.
    pub check: fn(&str) -> Option<&'static str>,
    /// Whether a number of which YAML may have lost a zero will do: for texts that are only shown.
    pub takes_fractions: bool,
    /// What texts look like, as a regular expression of JSON Schema (ECMA-262). It may take more than `check` does.
    #[cfg(not(target_arch = "wasm32"))]
    pub pattern: &'static str,
}

/// What a list may be.
#[derive(Debug)]
pub struct ListType {
    /// What its elements are.
    pub of: Kind,
    /// What an error says of an empty list; `None` if it may be empty.
    pub empty: Option<&'static str>,
}

/// The highest duration: none that fits is too long.
pub const NO_MOST: u64 = u64::MAX;

/// What is wrong with an empty list that says which requests are meant.
pub const LEAVE_OUT: &str = "must not be empty (leave it out to match everything)";

impl Table {
    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|it| it.name == name)
    }
}

/// Makes a [`Field`]: name, kind, what it means to leave it out (`required`, `else "words"` or `default VALUE`), and what it means.
#[macro_export]
#[doc(hidden)]
macro_rules! field {
    ($name:expr, $kind:expr, required, $says:literal) => {
        $crate::field!(@ $name, $kind, $crate::document::Absence::Required, $says)
    };
    ($name:expr, $kind:expr, else $words:literal, $says:literal) => {
        $crate::field!(@ $name, $kind, $crate::document::Absence::Else({
            #[cfg(not(target_arch = "wasm32"))]
            { $words }
            #[cfg(target_arch = "wasm32")]
            { }
        }), $says)
    };
    ($name:expr, $kind:expr, default $default:expr, $says:literal) => {
        $crate::field!(@ $name, $kind, $default, $says)
    };
    (@ $name:expr, $kind:expr, $default:expr, $says:literal) => {
        $crate::document::Field {
            name: $name,
            kind: $kind,
            absence: $default,
            hidden: false,
            #[cfg(not(target_arch = "wasm32"))]
            says: $says,
        }
    };
}

/// Makes a [`TextType`]: what finds the rule that a text breaks, and the pattern of the schema.
#[macro_export]
#[doc(hidden)]
macro_rules! text_type {
    ($check:expr, $pattern:expr) => {
        $crate::document::TextType {
            check: $check,
            takes_fractions: false,
            #[cfg(not(target_arch = "wasm32"))]
            pattern: $pattern,
        }
    };
}

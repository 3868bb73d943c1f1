//! A word of a closed list: what a label may say.

/// One value of a label, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The value.
    pub word: &'static str,
    /// When it is the value, in Markdown: for the reference, and not in the shipped module.
    #[cfg(not(target_arch = "wasm32"))]
    pub means: &'static str,
}

/// Makes a [`Word`] of a value and its sentence, which the shipped module does without.
#[macro_export]
#[doc(hidden)]
macro_rules! word {
    ($word:literal, $means:literal) => {
        $crate::monitor::word::Word {
            word: $word,
            #[cfg(not(target_arch = "wasm32"))]
            means: $means,
        }
    };
}

//! Bodies with a few things filled in that only the request knows.

/// A text with places for [`Slot`]s, written as Envoy writes its command operators: `%REASON%`, `%OPERATION%`,
/// `%REQUEST_ID%`. Any other `%` is an ordinary character.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Slot(Slot),
}

/// What can be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Why the reply is given, as in `x-outrigger-reason`.
    Reason,
    /// Name of the operation.
    Operation,
    /// The request's `x-request-id`.
    RequestId,
}

/// What is filled in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filling<'a> {
    /// For [`Slot::Reason`].
    pub reason: &'a str,
    /// For [`Slot::Operation`].
    pub operation: &'a str,
    /// For [`Slot::RequestId`]; what a client sent.
    pub request_id: &'a str,
}

/// A word between two `%` that looks like a slot and is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSlot(pub String);

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// An upper-case word stands between two `%` that is not the name of a slot: a mistake would otherwise be shown to
    /// clients.
    pub fn parse(text: &str) -> Result<Self, UnknownSlot> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            literal.push_str(before);
            rest = after;
            let word = after.split_once('%').filter(|(word, _)| is_word(word));
            let Some((word, behind)) = word else {
                literal.push('%');
                continue;
            };
            let slot = Slot::named(word).ok_or_else(|| UnknownSlot(word.to_owned()))?;
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
            pieces.push(Piece::Slot(slot));
            rest = behind;
        }
        literal.push_str(rest);
        pieces.push(Piece::Text(literal));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Self { pieces })
    }

    /// Whether the text is empty whatever is filled in.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether the slot occurs.
    pub fn has(&self, slot: Slot) -> bool {
        self.pieces.contains(&Piece::Slot(slot))
    }

    /// The text with everything filled in. What a client sent is cut down to harmless characters, so that no text, JSON or
    /// HTML around it can be broken out of.
    pub fn render(&self, filling: &Filling<'_>) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Slot(Slot::Reason) => text.push_str(filling.reason),
                Piece::Slot(Slot::Operation) => text.push_str(filling.operation),
                Piece::Slot(Slot::RequestId) => text.extend(filling.request_id.chars().filter(is_harmless).take(128)),
            }
        }
        text
    }
}

impl Slot {
    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "REASON" => Self::Reason,
            "OPERATION" => Self::Operation,
            "REQUEST_ID" => Self::RequestId,
            _ => return None,
        })
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

fn is_harmless(character: &char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | ':')
}

//! The answer of a codec that was fed a slice.

/// What a codec says about the bytes it was given so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<T> {
    /// At least this many bytes more are needed (never zero). They are sure to belong to the same unit, so a caller
    /// that reads exactly this many never reads past its end.
    Need(usize),
    /// The unit is complete; the second field says how many bytes of the slice belong to it.
    Done(T, usize),
}

impl<T> Step<T> {
    /// The same step about a converted fact.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Step<U> {
        match self {
            Step::Need(more) => Step::Need(more),
            Step::Done(fact, consumed) => Step::Done(convert(fact), consumed),
        }
    }
}

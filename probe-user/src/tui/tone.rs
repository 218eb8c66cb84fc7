//! What a piece of the screen means. Themes say how a meaning looks; every one also shows without colour.

/// A meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    #[default]
    Text,
    /// Less important.
    Dim,
    /// A heading.
    Head,
    /// The thing looked at.
    Accent,
    /// The dispatch site.
    Dispatch,
    /// The `get_phys` site.
    Scan,
    Good,
    Warn,
    Bad,
    /// The selected row.
    Selected,
    /// Borders and rules.
    Line,
}

/// Every meaning, in the order of [`Tone`].
pub const TONES: [Tone; 11] = [
    Tone::Text,
    Tone::Dim,
    Tone::Head,
    Tone::Accent,
    Tone::Dispatch,
    Tone::Scan,
    Tone::Good,
    Tone::Warn,
    Tone::Bad,
    Tone::Selected,
    Tone::Line,
];

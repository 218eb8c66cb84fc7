//! How meanings look: themes as one table, for terminals with 16 million colours, 256, 16, or none.

use ratatui::style::{Color, Modifier, Style};

use super::tone::{TONES, Tone};

/// Colours that the terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    None,
    Ansi16,
    Ansi256,
    True,
}

/// A colour in full, and the one of the 16 that stands for it.
type Paint = (u32, Color);

/// A theme: a colour for each tone, in the order of [`TONES`], and a scale from few to many.
#[derive(Debug)]
pub struct Theme {
    pub name: &'static str,
    tones: [Paint; TONES.len()],
    heat: [u32; 6],
    heat16: [Color; 5],
}

/// Every theme; the first is the usual one.
pub const THEMES: [Theme; 4] = [
    Theme {
        name: "dark",
        tones: [
            (0xc8_d3f5, Color::Reset),
            (0x82_8bb8, Color::DarkGray),
            (0xff_ffff, Color::White),
            (0x82_aaff, Color::LightBlue),
            (0x4f_d6be, Color::Cyan),
            (0xff_966c, Color::Yellow),
            (0xa6_da95, Color::Green),
            (0xff_c777, Color::LightYellow),
            (0xff_757f, Color::LightRed),
            (0x2d_3f76, Color::Blue),
            (0x44_4a73, Color::DarkGray),
        ],
        heat: [0x2b_0b57, 0x6a_176e, 0xae_305c, 0xe3_5933, 0xfb_a40a, 0xfc_ffa4],
        heat16: [Color::Blue, Color::Magenta, Color::Red, Color::Yellow, Color::White],
    },
    Theme {
        name: "light",
        tones: [
            (0x27_3148, Color::Reset),
            (0x5f_6b85, Color::DarkGray),
            (0x00_0000, Color::Black),
            (0x1d_4ed8, Color::Blue),
            (0x0f_766e, Color::Cyan),
            (0xb4_3b07, Color::Red),
            (0x15_7a3a, Color::Green),
            (0x8a_4b00, Color::Magenta),
            (0xb9_1c1c, Color::Red),
            (0xbf_d7ff, Color::Gray),
            (0xb4_bdd0, Color::Gray),
        ],
        heat: [0xde_ebf7, 0xb6_d4e9, 0x6b_aed6, 0x2f_7ebc, 0x08_519c, 0x08_2050],
        heat16: [Color::Gray, Color::Cyan, Color::Blue, Color::Magenta, Color::Black],
    },
    Theme {
        name: "high-contrast",
        tones: [
            (0xff_ffff, Color::White),
            (0xd0_d0d0, Color::White),
            (0xff_ffff, Color::White),
            (0xff_ff00, Color::LightYellow),
            (0x00_ffff, Color::LightCyan),
            (0xff_ff00, Color::LightYellow),
            (0x00_ff00, Color::LightGreen),
            (0xff_ff00, Color::LightYellow),
            (0xff_6060, Color::LightRed),
            (0x00_00d0, Color::Blue),
            (0xff_ffff, Color::White),
        ],
        heat: [0x40_4040, 0x70_7070, 0x98_9898, 0xc0_c0c0, 0xe8_e8e8, 0xff_ffff],
        heat16: [Color::DarkGray, Color::DarkGray, Color::Gray, Color::White, Color::White],
    },
    Theme {
        name: "colour-blind",
        tones: [
            (0xd8_dee9, Color::Reset),
            (0x93_9cb0, Color::DarkGray),
            (0xff_ffff, Color::White),
            (0xcc_79a7, Color::LightMagenta),
            (0x56_b4e9, Color::LightBlue),
            (0xe6_9f00, Color::Yellow),
            (0x56_b4e9, Color::LightBlue),
            (0xf0_e442, Color::LightYellow),
            (0xd5_5e00, Color::LightRed),
            (0x2a_3f6a, Color::Blue),
            (0x4a_5168, Color::DarkGray),
        ],
        heat: [0x00_2251, 0x2c_426f, 0x60_646d, 0x93_8a72, 0xc8_b56b, 0xfd_ea45],
        heat16: [Color::Blue, Color::DarkGray, Color::Gray, Color::Yellow, Color::LightYellow],
    },
];

/// How the screen looks: a theme, the colours there are, and the characters there are.
#[derive(Debug, Clone, Copy)]
pub struct Looks {
    pub theme: &'static Theme,
    pub depth: Depth,
    pub ascii: bool,
}

impl Looks {
    /// The theme by number, around its end.
    pub fn theme(number: usize) -> &'static Theme {
        &THEMES[number % THEMES.len()]
    }

    /// How a meaning looks.
    pub fn style(&self, tone: Tone) -> Style {
        let (full, ansi) = self.theme.tones[tone as usize];
        let color = match self.depth {
            Depth::None => None,
            Depth::Ansi16 => Some(ansi),
            Depth::Ansi256 | Depth::True => Some(self.color(full)),
        };
        let style = match (tone, color) {
            // Without colour, or with few, reversing is what surely shows.
            (Tone::Selected, None) => Style::new().add_modifier(Modifier::REVERSED),
            (Tone::Selected, Some(color)) => Style::new().bg(color),
            (_, None) => Style::new(),
            (_, Some(color)) => Style::new().fg(color),
        };
        match tone {
            Tone::Head | Tone::Bad | Tone::Accent | Tone::Selected => style.add_modifier(Modifier::BOLD),
            Tone::Dim if self.depth == Depth::None => style.add_modifier(Modifier::DIM),
            _ => style,
        }
    }

    /// A place on the scale from few (0) to many (1); `None` where it takes characters to tell.
    pub fn heat(&self, share: f64) -> Option<Color> {
        let stops = self.theme.heat.len() - 1;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a few stops")]
        let place = |steps: usize| (share.clamp(0.0, 1.0) * steps as f64) as usize;
        match self.depth {
            Depth::None => None,
            Depth::Ansi16 => Some(self.theme.heat16[place(self.theme.heat16.len()).min(4)]),
            Depth::Ansi256 | Depth::True => {
                let at = share.clamp(0.0, 1.0) * stops as f64;
                let first = place(stops).min(stops - 1);
                Some(self.color(mix(self.theme.heat[first], self.theme.heat[first + 1], at - first as f64)))
            }
        }
    }

    fn color(&self, full: u32) -> Color {
        let [_, red, green, blue] = full.to_be_bytes();
        if self.depth == Depth::True { Color::Rgb(red, green, blue) } else { Color::Indexed(indexed(full)) }
    }
}

fn mix(from: u32, to: u32, share: f64) -> u32 {
    let channel = |from: u8, to: u8| {
        let mixed = f64::from(from) + (f64::from(to) - f64::from(from)) * share;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two u8")]
        let mixed = mixed.round().clamp(0.0, 255.0) as u8;
        mixed
    };
    let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
    u32::from_be_bytes(std::array::from_fn(|place| channel(from[place], to[place])))
}

/// The nearest of the 6×6×6 cube and the 24 greys of a 256-colour terminal.
fn indexed(full: u32) -> u8 {
    const LEVELS: [i32; 6] = [0, 95, 135, 175, 215, 255];
    let [_, red, green, blue] = full.to_be_bytes().map(i32::from);
    let nearest =
        |value: i32| (0..6u8).min_by_key(|&level| (LEVELS[usize::from(level)] - value).abs()).unwrap_or(0);
    let distance = |r: i32, g: i32, b: i32| (r - red).pow(2) + (g - green).pow(2) + (b - blue).pow(2);
    let (r, g, b) = (nearest(red), nearest(green), nearest(blue));
    let cube = distance(LEVELS[usize::from(r)], LEVELS[usize::from(g)], LEVELS[usize::from(b)]);
    let grey = (0..24u8).min_by_key(|&grey| {
        let level = 8 + 10 * i32::from(grey);
        distance(level, level, level)
    });
    let grey = grey.unwrap_or(0);
    let level = 8 + 10 * i32::from(grey);
    if distance(level, level, level) < cube { 232 + grey } else { 16 + 36 * r + 6 * g + b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_colours_are_the_nearest_ones() {
        assert_eq!(indexed(0x00_0000), 16);
        assert_eq!(indexed(0xff_ffff), 231);
        assert_eq!(indexed(0xff_0000), 196);
        assert_eq!(indexed(0x80_8080), 244);
    }

    #[test]
    fn no_colour_means_no_colour() {
        for theme in &THEMES {
            let looks = Looks { theme, depth: Depth::None, ascii: false };
            for tone in TONES {
                let style = looks.style(tone);
                assert_eq!((style.fg, style.bg), (None, None));
            }
            assert_eq!(looks.heat(0.5), None);
        }
    }

    #[test]
    fn tones_stand_in_their_order() {
        for (place, tone) in TONES.into_iter().enumerate() {
            assert_eq!(tone as usize, place);
        }
    }
}

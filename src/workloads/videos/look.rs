//! How a builtin video looks: its moving background, and the name drawn large upon it, as a filter graph of ffmpeg.
//!
//! Nothing that a person typed is ever part of the graph: each line of the name is read from a file of its own.

use std::fmt::Write;

/// The builtin templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Soft colours that turn slowly.
    Plain,
    /// A night sky with drifting stars.
    Stars,
    Rainbow,
}

impl Look {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::Plain),
            "stars" => Some(Self::Stars),
            "rainbow" => Some(Self::Rainbow),
            _ => None,
        }
    }
}

/// The picture's size in pixels; even, as the pixel format demands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    width: u32,
    height: u32,
}

impl Size {
    pub(super) fn of(width: u32, height: u32) -> Self {
        Self { width: (width & !1).max(2), height: (height & !1).max(2) }
    }
}

/// A name broken into lines, and the size of its letters in pixels, as large as the picture takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lines {
    pub lines: Vec<String>,
    letters: u32,
}

/// The file from which line number `index` is drawn, and the one of the font, in the folder that ffmpeg runs in.
pub(super) fn line_file(index: usize) -> String {
    format!("line-{index}.txt")
}

pub(super) const FONT_FILE: &str = "font";

pub(super) const FRAMES_PER_SECOND: u32 = 25;

/// The graph with the outputs `[video]` and `[audio]`. The sound is silence: a video without any sound is shown by
/// Telegram as an animation, and does not get a `file_id` for `sendVideo`.
pub(super) fn graph(look: Look, gender: &str, size: Size, name: &Lines) -> String {
    let mut graph = background(look, gender, size);
    for index in 0..name.lines.len() {
        graph.push(',');
        graph += &line(size, name, index);
    }
    graph + ",format=yuv420p[video];anullsrc=r=44100:cl=stereo[audio]"
}

fn background(look: Look, gender: &str, size: Size) -> String {
    let day = match gender {
        "girl" => ["ff5f9e", "ffb36b", "9b5de5"],
        "boy" => ["2193d6", "43cea2", "3a3897"],
        _ => ["11998e", "f7b733", "fc4a1a"],
    };
    match look {
        Look::Plain => gradient(size, &day, 0.01),
        Look::Rainbow => gradient(size, &["ff595e", "ffca3a", "8ac926", "1982c4", "6a4c93", "ff595e", "ffca3a"], 0.02),
        Look::Stars => {
            let night = match gender {
                "girl" => ["1b0b30", "71245c", "30164f"],
                "boy" => ["0b1030", "1c4c71", "16306b"],
                _ => ["0b1030", "3a1c71", "16406b"],
            };
            let sky = gradient(size, &night, 0.01);
            let Size { width, height } = size;
            // One frame of random points, repeated, scrolled and laid over the sky: points for each frame would be slow.
            format!(
                "{sky},format=gbrp[sky];\
                 nullsrc=s=320x180:r={FRAMES_PER_SECOND}:d=0.04,format=gray,geq=lum=255*gt(random(1)\\,0.997),\
                 loop=-1:1,setpts=N/{FRAMES_PER_SECOND}/TB,scroll=h=-0.002:v=-0.0007,\
                 scale={width}:{height}:flags=bicubic,format=gbrp[stars];\
                 [sky][stars]blend=all_mode=screen"
            )
        }
    }
}

/// Colours from corner to corner, turning by `speed` radians a frame. The seed keeps it the same each time.
fn gradient(Size { width, height }: Size, colours: &[&str], speed: f64) -> String {
    let count = colours.len();
    let mut gradient = format!(
        "gradients=s={width}x{height}:r={FRAMES_PER_SECOND}:seed=7:speed={speed}\
         :x0=0:y0=0:x1={width}:y1={height}:nb_colors={count}"
    );
    for (index, colour) in colours.iter().enumerate() {
        let _ = write!(gradient, ":c{index}=0x{colour}");
    }
    gradient
}

fn line(Size { height, .. }: Size, name: &Lines, index: usize) -> String {
    let (letters, file) = (name.letters, line_file(index));
    let (outline, shadow) = ((letters / 24).max(1), (letters / 30).max(1));
    let from_middle = (index as f64 - (name.lines.len() - 1) as f64 / 2.0) * f64::from(letters) * LINE_HEIGHT;
    let middle = f64::from(height) / 2.0 + from_middle;
    let sway = f64::from(height) / 40.0;
    format!(
        "drawtext=fontfile={FONT_FILE}:textfile={file}:expansion=none:fontsize={letters}:fontcolor=white\
         :borderw={outline}:bordercolor=black@0.45:shadowx={shadow}:shadowy={shadow}:shadowcolor=black@0.4\
         :x=(w-text_w)/2:y={middle:.1}-text_h/2+{sway:.1}*sin(2*t)"
    )
}

/// How much of the picture the name may take, and how far its lines are apart, in sizes of its letters.
const WIDE: f64 = 0.9;
const HIGH: f64 = 0.8;
const LARGEST: f64 = 0.3;
const LINE_HEIGHT: f64 = 1.25;

/// A longer word is cut.
const LONGEST_WORD: usize = 24;

/// Breaks a name into lines so that its letters are as large as can be.
pub(super) fn fit(name: &str, size: Size) -> Lines {
    let characters: Vec<Vec<char>> = name.split(' ').map(|word| word.chars().collect()).collect();
    let words: Vec<String> =
        characters.iter().flat_map(|word| word.chunks(LONGEST_WORD)).map(|piece| piece.iter().collect()).collect();
    let (width, height) = (f64::from(size.width), f64::from(size.height));
    let mut letters = ((height * LARGEST) as u32).max(1);
    loop {
        let lines = wrap(&words, width * WIDE / f64::from(letters));
        let is_low = lines.len() as f64 * LINE_HEIGHT * f64::from(letters) <= height * HIGH;
        let is_narrow = lines.iter().all(|line| ems(line) * f64::from(letters) <= width * WIDE);
        if (is_low && is_narrow) || letters == 1 {
            return Lines { lines, letters };
        }
        letters -= 1;
    }
}

/// Fills each line with as many words as it takes; a word alone may be wider.
fn wrap(words: &[String], widest: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if ems(line) + ems(" ") + ems(word) <= widest => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.clone()),
        }
    }
    lines
}

/// The width of a text in sizes of its letters, rather too wide than too narrow, after the widths of DejaVu Sans Bold.
fn ems(text: &str) -> f64 {
    text.chars().map(em).sum()
}

fn em(character: char) -> f64 {
    match character {
        ' ' | '\'' | '’' | '.' | ',' | 'i' | 'l' | 'j' | 'і' | 'ї' | 'I' | 'J' => 0.4,
        '-' | 't' | 'f' | 'r' | '(' | ')' => 0.5,
        'm' | 'w' | 'M' | 'W' | '@' | 'Æ' | 'æ' | 'Œ' | 'œ' => 1.12,
        'ж' | 'м' | 'ш' | 'щ' | 'ю' | 'ф' | 'ы' | 'Ж' | 'М' | 'Ш' | 'Щ' | 'Ю' | 'Ф' | 'Ы' | 'Д' => 1.22,
        '\0'..='\u{58f}' if character.is_uppercase() => 0.87,
        '\0'..='\u{58f}' => 0.76,
        _ => 1.1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BUILTIN_TEMPLATES;

    #[test]
    fn a_short_name_is_large_and_a_long_one_still_fits() {
        let size = Size::of(640, 360);
        let short = fit("Ян", size);
        assert_eq!((short.lines.len(), short.letters), (1, 108));

        let long = fit("Анна Мария ".repeat(9).trim_end(), size);
        assert!(long.lines.len() > 2 && long.letters >= 24, "{long:?}");
        for name in [&"Ш".repeat(100), &"w ".repeat(50).trim_end().to_owned(), &long.lines.join(" ")] {
            let fitted = fit(name, size);
            assert_eq!(fitted.lines.concat().replace(' ', ""), name.replace(' ', ""), "nothing is left out");
            assert!(fitted.lines.iter().all(|line| ems(line) * f64::from(fitted.letters) <= 640.0), "{fitted:?}");
            assert!(fitted.lines.len() as u32 * fitted.letters <= 360, "{fitted:?}");
        }
    }

    #[test]
    fn every_template_has_its_name() {
        assert!(BUILTIN_TEMPLATES.iter().all(|name| Look::named(name).is_some()));
        assert_eq!(Look::named("snow"), None);
    }

    #[test]
    fn odd_sizes_become_even() {
        let Size { width, height } = Size::of(641, 1);
        assert_eq!((width, height), (640, 2));
    }
}

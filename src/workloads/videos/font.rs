//! Which font a name is drawn with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::processor::program::Program;

/// Where systems keep DejaVu Sans Bold (it has Latin, Cyrillic, Greek, Armenian, Georgian, Hebrew and Arabic), and what
/// they have instead.
const KNOWN: &[&str] = &[
    "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf",
    "/usr/share/fonts/dejavu/DejaVuSans-Bold.ttf",
    "/usr/share/fonts/TTF/DejaVuSans-Bold.ttf",
    "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans-Bold.ttf",
    "/opt/homebrew/share/fonts/DejaVuSans-Bold.ttf",
    "/Library/Fonts/Arial Unicode.ttf",
    "/System/Library/Fonts/Supplemental/Arial Bold.ttf",
];

/// The font file for a name: the configured one, else a known one, else whatever fontconfig offers. A name in a script
/// that the known fonts lack is fontconfig's to choose for.
///
/// # Errors
/// There is none, in words for whoever configures the server.
pub(super) async fn find(configured: &str, name: &str) -> Result<PathBuf, String> {
    if !configured.is_empty() {
        let font = std::path::absolute(configured).ok().filter(|font| font.is_file());
        return font.ok_or_else(|| format!("the font {configured} (videos.font) is not a file"));
    }
    let rare: Vec<_> = name.chars().filter(|c| is_rare(*c)).map(|c| format!("{:x}", u32::from(c))).collect();
    if !rare.is_empty()
        && let Some(font) = matched(&format!("sans:bold:charset={}", rare.join(" "))).await
    {
        return Ok(font);
    }
    if let Some(font) = KNOWN.iter().map(Path::new).find(|font| font.is_file()) {
        return Ok(font.to_owned());
    }
    matched("sans:bold").await.ok_or_else(|| {
        "no font was found: install one (Debian: fonts-dejavu-core) or name its file in videos.font".to_owned()
    })
}

fn is_rare(character: char) -> bool {
    character >= '\u{900}' && !matches!(character, '\u{10a0}'..='\u{10ff}' | '\u{1e00}'..='\u{26ff}')
}

/// What fontconfig offers for a pattern, if it is there.
async fn matched(pattern: &str) -> Option<PathBuf> {
    let fc_match = Program {
        program: "fc-match".into(),
        args: ["-f", "%{file}", pattern].map(Into::into).into(),
        env: Vec::new(),
        folder: None,
        input: Vec::new(),
        time_limit: Duration::from_secs(5),
    };
    let ended = fc_match.run(|_| false).await.ok().filter(|ended| ended.status.success())?;
    let font = PathBuf::from(String::from_utf8(ended.stdout).ok()?);
    font.is_file().then_some(font)
}

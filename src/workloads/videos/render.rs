//! Makes the video for a name: with ffmpeg, or with a program of the user's own.
//!
//! The result is `{"name", "gender", "template", "file", "bytes", "seconds"}`, where `file` is in the folder of files
//! and `seconds` is how long the making took; or `{"name", "gender", "template", "file_id", "seconds"}` where a template
//! has one already.

use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::fs;
use tokio::io::AsyncReadExt;

use super::look::{self, Look, Size};
use super::{font, name};
use crate::config::{BUILTIN_TEMPLATES, Template, Videos};
use crate::files::FileStore;
use crate::processor::program::{Ended, Program, Trouble};
use crate::processor::{Failure, Processor, Progress, ReturnValue, Work, command};
use crate::text;

const DEFAULT_TEMPLATE: &str = "default";

/// The builtin processor "video".
#[derive(Clone, Debug)]
pub struct Renderer {
    settings: Videos,
    files: FileStore,
}

/// What a job asks for. What else is in its data (who asked, where to deliver) is not the renderer's business.
#[derive(Deserialize)]
struct Wish {
    name: String,
    #[serde(default)]
    gender: Option<String>,
    #[serde(default)]
    template: Option<String>,
}

/// What is to be made: checked, with the defaults in place.
struct Order {
    name: String,
    gender: String,
    template: String,
}

/// What made it.
enum Made {
    File(PathBuf),
    FileId(String),
}

impl Renderer {
    pub fn new(settings: Videos, files: FileStore) -> Self {
        Self { settings, files }
    }

    fn order(&self, work: &Work) -> Result<Order, Failure> {
        let wish: Wish = serde_json::from_str(work.data.get())
            .map_err(|error| Failure::fatal(format!("the job's data say no name to draw: {}", plain(&error))))?;
        name::check_name(&wish.name).map_err(|error| Failure::fatal(error.to_string()))?;
        let given = |text: Option<String>| text.map(|text| text::normalise(&text)).filter(|text| !text.is_empty());
        let genders: Vec<_> = self.settings.genders.iter().map(|gender| text::normalise(gender)).collect();
        let gender = given(wish.gender).or_else(|| genders.first().cloned()).unwrap_or_default();
        if !genders.is_empty() && !genders.contains(&gender) {
            return Err(Failure::fatal(format!("unknown gender \"{gender}\"; there are {}", genders.join(", "))));
        }
        let template = given(wish.template).unwrap_or_else(|| DEFAULT_TEMPLATE.to_owned());
        Ok(Order { name: name::display(&wish.name), gender, template })
    }

    async fn make(&self, order: &Order, scratch: &Path, progress: Progress) -> Result<Made, Failure> {
        let own = self.settings.templates.iter().find(|(name, _)| text::normalise(name) == order.template);
        if let Some((_, template)) = own {
            return self.run_template(template, order, scratch, progress).await;
        }
        let Some(look) = Look::named(&order.template) else {
            let own = self.settings.templates.keys().map(String::as_str);
            let known: Vec<_> = BUILTIN_TEMPLATES.into_iter().chain(own).collect();
            let reason = format!("unknown template \"{}\"; there are {}", order.template, known.join(", "));
            return Err(Failure::fatal(reason));
        };
        let file = self.run_ffmpeg(look, order, scratch, progress).await?;
        if !is_mp4(&file).await {
            return Err(Failure::retry("ffmpeg wrote a file that is no mp4"));
        }
        Ok(Made::File(file))
    }

    async fn run_ffmpeg(
        &self,
        look: Look,
        order: &Order,
        scratch: &Path,
        progress: Progress,
    ) -> Result<PathBuf, Failure> {
        let size = Size::of(self.settings.width, self.settings.height);
        let font = font::find(&self.settings.font, &order.name).await.map_err(Failure::retry)?;
        let name = look::fit(&order.name, size);
        lay_out(scratch, &font, &name.lines).await.map_err(|error| Failure::retry(format!("scratch: {error}")))?;

        let graph = look::graph(look, &order.gender, size, &name);
        let seconds = self.settings.seconds.max(1);
        let mut args: Vec<_> =
            "-hide_banner -nostdin -y -loglevel error -nostats -progress pipe:2".split(' ').collect();
        args.extend(["-filter_complex", &graph, "-map", "[video]", "-map", "[audio]"]);
        let length = seconds.to_string();
        args.extend(["-t", &length]);
        args.extend("-c:v libx264 -preset veryfast -crf 21 -pix_fmt yuv420p -c:a aac -b:a 64k".split(' '));
        args.extend(["-movflags", "+faststart", "video.mp4"]);
        let program = Program {
            program: self.settings.ffmpeg.clone(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            folder: Some(scratch.to_owned()),
            input: Vec::new(),
            time_limit: self.settings.time_limit.0,
        };
        let mut reported = 0;
        let ended = program.run(|line| follow(line, seconds, &mut reported, &progress)).await;
        let ended = ended.map_err(|trouble| match &trouble {
            Trouble::NotStarted { source, .. } if source.kind() == ErrorKind::NotFound => {
                Failure::retry(format!("{trouble}: install ffmpeg, or say in videos.ffmpeg where it is"))
            }
            _ => Failure::retry(format!("ffmpeg: {trouble}")),
        })?;
        command::check(&ended).map_err(|failure| Failure::retry(format!("ffmpeg: {}", failure.reason())))?;
        Ok(scratch.join("video.mp4"))
    }

    /// Runs a template of the user's own: `{"name", "gender", "template", "output"}` on stdin. It writes the video to
    /// `output` and says nothing, or says `{"file": path}` or `{"file_id": id}`.
    async fn run_template(
        &self,
        template: &Template,
        order: &Order,
        scratch: &Path,
        progress: Progress,
    ) -> Result<Made, Failure> {
        let output = scratch.join("output.mp4");
        let input = json!({
            "name": order.name, "gender": order.gender, "template": order.template, "output": output,
        });
        let program = Program {
            program: template.program.clone(),
            args: template.args.iter().map(Into::into).collect(),
            env: Vec::new(),
            folder: None,
            input: input.to_string().into_bytes(),
            time_limit: self.settings.time_limit.0,
        };
        let ended = program.run(|line| command::reports(line, &progress)).await;
        let ended = ended.map_err(|trouble| Failure::retry(format!("template {}: {trouble}", order.template)))?;
        match said(&ended)? {
            Said { file_id: Some(file_id), .. } => Ok(Made::FileId(file_id)),
            // Relative to the scratch folder, if it is.
            Said { file, .. } => Ok(Made::File(scratch.join(file.unwrap_or(output)))),
        }
    }

    /// Moves a finished file into the folder of files.
    async fn keep(&self, file: &Path, scratch: &Path, stem: &str) -> Result<(String, u64), Failure> {
        let missing = |error| Failure::retry(format!("there is no video at {}: {error}", file.display()));
        // Links are followed, so that what is moved and measured is the file itself.
        let mut file = fs::canonicalize(file).await.map_err(missing)?;
        let about = fs::metadata(&file).await.map_err(missing)?;
        let max = self.settings.max_file_bytes;
        match about.len() {
            _ if !about.is_file() => return Err(Failure::retry(format!("{} is not a file", file.display()))),
            0 => return Err(Failure::retry("the video is an empty file")),
            bytes if bytes > max => {
                return Err(Failure::fatal(format!(
                    "the video has {bytes} bytes, more than {max} (videos.max_file_bytes)"
                )));
            }
            _ => {}
        }
        // A template may name a file that it wants to keep: only what is in scratch is ours to move.
        let scratch = fs::canonicalize(scratch).await.map_err(missing)?;
        if !file.starts_with(&scratch) {
            let copy = scratch.join("copy.mp4");
            fs::copy(&file, &copy).await.map_err(missing)?;
            file = copy;
        }
        match self.files.keep(&file, stem).await {
            Ok(kept) => Ok((kept.name, kept.bytes)),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                Err(Failure::retry(format!("{error}{cause}")))
            }
        }
    }
}

#[async_trait]
impl Processor for Renderer {
    fn uses_scratch(&self) -> bool {
        true
    }

    async fn process(&self, work: Work, progress: Progress) -> Result<ReturnValue, Failure> {
        #[derive(Serialize)]
        struct Video {
            name: String,
            gender: String,
            template: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            file: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            bytes: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            file_id: Option<String>,
            seconds: f64,
        }

        let started = Instant::now();
        let order = self.order(&work)?;
        // ffmpeg runs in the folder, templates elsewhere: the path must be good from anywhere.
        let scratch = std::path::absolute(&work.scratch).map_err(|error| Failure::retry(error.to_string()))?;
        let (file, bytes, file_id) = match self.make(&order, &scratch, progress).await? {
            Made::FileId(file_id) => (None, None, Some(file_id)),
            Made::File(file) => {
                let (file, bytes) = self.keep(&file, &scratch, &order.name).await?;
                (Some(file), Some(bytes), None)
            }
        };
        let Order { name, gender, template } = order;
        let seconds = started.elapsed().as_millis() as f64 / 1000.0;
        Ok(json!(Video { name, gender, template, file, bytes, file_id, seconds }).into())
    }
}

/// Puts what ffmpeg reads into its folder, under names that need no escaping in a filter.
async fn lay_out(scratch: &Path, font: &Path, lines: &[String]) -> std::io::Result<()> {
    symlink(font, scratch.join(look::FONT_FILE))?;
    for (index, line) in lines.iter().enumerate() {
        fs::write(scratch.join(look::line_file(index)), line).await?;
    }
    Ok(())
}

/// Takes the lines of `-progress`, and reports how many percent of the video are there when they grow.
fn follow(line: &str, seconds: u32, reported: &mut u64, progress: &Progress) -> bool {
    const KEYS: &[&str] = &[
        "frame",
        "fps",
        "bitrate",
        "total_size",
        "out_time",
        "out_time_ms",
        "out_time_us",
        "dup_frames",
        "drop_frames",
        "speed",
        "progress",
    ];
    let Some((key, value)) = line.split_once('=') else { return false };
    if key == "out_time_us"
        && let Ok(done_us) = value.trim().parse::<u64>()
    {
        let percent = (done_us / (u64::from(seconds) * 10_000)).min(100);
        if percent > *reported {
            *reported = percent;
            progress(json!(percent));
        }
    }
    KEYS.contains(&key) || key.starts_with("stream_")
}

/// What a template said on stdout.
#[derive(Default, Deserialize)]
struct Said {
    file: Option<PathBuf>,
    file_id: Option<String>,
}

fn said(ended: &Ended) -> Result<Said, Failure> {
    command::check(ended)?;
    let said: Option<Said> = serde_json::from_str(command::result(ended)?.get())
        .map_err(|error| Failure::retry(format!("the template says neither file nor file_id: {}", plain(&error))))?;
    let said = said.unwrap_or_default();
    match said.file_id.as_deref() {
        Some("") => Err(Failure::retry("the template says an empty file_id")),
        _ => Ok(said),
    }
}

fn plain(error: &serde_json::Error) -> String {
    text::in_plain_words(&error.to_string())
}

/// Whether a file begins as every mp4 does: with a box of the type "ftyp".
async fn is_mp4(file: &Path) -> bool {
    let mut start = [0; 8];
    let Ok(mut file) = fs::File::open(file).await else { return false };
    file.read_exact(&mut start).await.is_ok() && &start[4..] == b"ftyp"
}

#[cfg(test)]
mod tests;

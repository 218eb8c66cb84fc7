//! Runs other programs: output captured to a log, and shown where it matters, which is on failure.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, io};

use anyhow::{Context, Result, anyhow, bail};

/// Lines of a log that an error shows.
const TAIL: usize = 30;

/// Runs `command` with its output in `log`, replacing the log. Fails with the log's tail.
pub(crate) fn logged(command: &mut Command, log: &Path) -> Result<()> {
    if let Some(parent) = log.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let twin = file.try_clone().with_context(|| format!("cannot share {}", log.display()))?;
    let status = command.stdin(Stdio::null()).stdout(file).stderr(twin).status();
    let status = status.map_err(|error| cannot_start(command, &error))?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let tail = tail(&text, TAIL).join("\n  | ");
    bail!("{} ended with {status}; {} says at its end:\n  | {tail}", name(command), log.display())
}

/// Runs `command` and returns its standard output as text.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.stdin(Stdio::null()).output().map_err(|error| cannot_start(command, &error))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("{} ended with {}: {}", name(command), out.status, said.trim());
    }
    String::from_utf8(out.stdout)
        .with_context(|| format!("{} printed something that is no text", name(command)))
}

/// Runs `left | right` with the errors of both in `log`.
pub(crate) fn piped(left: &mut Command, right: &mut Command, log: &Path) -> Result<()> {
    let said = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let twin = said.try_clone().with_context(|| format!("cannot share {}", log.display()))?;
    let mut source = left.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said).spawn();
    let source = source.as_mut().map_err(|error| cannot_start(left, error))?;
    let pipe = source.stdout.take().ok_or_else(|| anyhow!("{} has no output", name(left)))?;
    let sunk = right.stdin(pipe).stdout(Stdio::null()).stderr(twin).status();
    let sourced = source.wait().with_context(|| format!("cannot wait for {}", name(left)))?;
    let sunk = sunk.map_err(|error| cannot_start(right, &error))?;
    if sourced.success() && sunk.success() {
        return Ok(());
    }
    let text = fs::read_to_string(log).unwrap_or_default();
    let tail = tail(&text, TAIL).join("\n  | ");
    bail!("{} ({sourced}) into {} ({sunk}) failed:\n  | {tail}", name(left), name(right))
}

/// The last `count` lines.
pub(crate) fn tail(text: &str, count: usize) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

/// This very program. By its open file, not its name: cargo may have put a newer one there.
pub(crate) fn this() -> Command {
    Command::new("/proc/self/exe")
}

/// Where `program` is on the search path, or in the folders of system programs that a user's path lacks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

fn name(command: &Command) -> String {
    let arguments = command.get_args().take(3).map(|a| a.to_string_lossy().into_owned());
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(arguments);
    if command.get_args().len() > 3 {
        words.push("…".to_owned());
    }
    words.join(" ")
}

fn cannot_start(command: &Command, error: &io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    match error.kind() {
        ErrorKind::NotFound => anyhow!("{program} is not installed (or not on PATH)"),
        _ => anyhow!("cannot start {program}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_at_most_what_there_is() {
        assert_eq!(tail("a\nb\nc", 2), ["b", "c"]);
        assert_eq!(tail("a", 5), ["a"]);
        assert_eq!(tail("", 5), Vec::<&str>::new());
    }

    #[test]
    fn a_failure_shows_the_end_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let error =
            logged(Command::new("sh").args(["-c", "echo so; exit 3"]), &dir.path().join("l")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.contains("| so"), "{text}");
    }
}

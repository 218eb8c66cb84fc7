//! The last word of a guest: how its command ended, or why the guest could not run it.

/// One line over the verdict port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The command ran.
    Ended {
        /// Its exit status, or 128 + N when signal N killed it.
        status: u8,
        /// Bytes sent over the stdout port, all of which the host must have before it acknowledges.
        stdout: u64,
        /// Bytes sent over the stderr port.
        stderr: u64,
        /// `/proc/sys/kernel/tainted` after the command.
        taint: u64,
    },
    /// The guest could not get as far as running the command.
    Failed(String),
}

impl Verdict {
    /// The line, with its newline.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Ended { status, stdout, stderr, taint } => {
                format!("ended {status} {stdout} {stderr} {taint}\n")
            }
            Self::Failed(reason) => format!("failed {}\n", reason.replace('\n', "; ")),
        }
    }

    /// Reads a line, with or without its newline.
    #[must_use]
    pub fn decode(line: &str) -> Option<Self> {
        let (word, rest) = line.trim_end_matches('\n').split_once(' ')?;
        if word == "failed" {
            return Some(Self::Failed(rest.to_owned()));
        }
        let mut fields = rest.split(' ');
        let status = fields.next()?.parse().ok()?;
        let [stdout, stderr, taint] =
            [fields.next()?, fields.next()?, fields.next()?].map(|f| f.parse().ok());
        let verdict = Self::Ended { status, stdout: stdout?, stderr: stderr?, taint: taint? };
        (word == "ended" && fields.next().is_none()).then_some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_survives_the_journey() {
        for verdict in [
            Verdict::Ended { status: 139, stdout: 0, stderr: u64::MAX, taint: 4096 },
            Verdict::Failed("mount: no such device".into()),
        ] {
            assert_eq!(Verdict::decode(&verdict.encode()), Some(verdict));
        }
    }

    #[test]
    fn half_a_verdict_is_none() {
        for line in
            ["", "ended", "ended 0", "ended 0 1 2", "ended 256 0 0 0", "ended 0 0 0 0 0", "passed 0 0 0 0"]
        {
            assert_eq!(Verdict::decode(line), None, "{line:?}");
        }
    }
}

//! The result for a person.

use std::io::{self, Write};

use probe_model::unit;

use super::{CapReport, ClockReport, Distribution, JobReport, Latencies, Rate, Report};

impl Report {
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "device    {} on Linux {}", self.device, self.kernel)?;
        writeln!(out, "abi       {}", self.abi.describe())?;
        if let Some(question) = &self.question {
            writeln!(out, "question  {question}")?;
        }
        for job in &self.jobs {
            job.write_text(out)?;
        }
        self.write_comparisons(out)?;
        writeln!(out, "\n{:<24}{:<12}{:>12}", "IOCTLS OF ALL", "outcome", "count")?;
        for row in &self.ioctls {
            writeln!(out, "{:<24}{:<12}{:>12}", row.command, row.outcome, row.count)?;
        }
        Ok(())
    }

    /// Jobs that ran by several ways, side by side.
    fn write_comparisons(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut begin = 0;
        while begin < self.jobs.len() {
            let first = &self.jobs[begin];
            let same = |job: &&JobReport| (job.stage, &job.label) == (first.stage, &first.label);
            let group: Vec<&JobReport> = self.jobs[begin..].iter().take_while(same).collect();
            if group.len() > 1 {
                compare(&group, out)?;
            }
            begin += group.len();
        }
        Ok(())
    }
}

impl JobReport {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "\nJOB {} (stage {}) via {}", self.label, self.stage, self.via)?;
        self.write_buffer(out)?;
        let Rate { intended_per_second, achieved_per_second, owed } = self.rate;
        let seconds = self.elapsed_ns as f64 / 1e9;
        write!(out, "rate      {achieved_per_second:.0} calls/s over {seconds:.3} s")?;
        if let Some(intended) = intended_per_second {
            write!(out, ", {intended:.0} intended")?;
        }
        writeln!(out, ", ended by {}", self.ended.name())?;
        if owed > 0 {
            writeln!(
                out,
                "          {} calls were due and never began: response times are lower bounds",
                unit::count(owed)
            )?;
        }
        let seed = if self.follows_answers { "; queries follow the answers" } else { "" };
        writeln!(out, "sequence  seed {}, arguments {}{seed}", self.seed, self.arguments_hash)?;
        self.write_clock(out)?;
        self.write_distributions(out)?;
        if let Some(stops) = self.stops {
            writeln!(
                out,
                "scans     {} ended at the cap, {} short of it",
                unit::count(stops.cap),
                unit::count(stops.short)
            )?;
        }
        if let Some(errno) = &self.not_pinned {
            writeln!(out, "cpus      a thread could not be pinned: {errno}")?;
        }
        self.write_findings(out)
    }

    fn write_buffer(&self, out: &mut dyn Write) -> io::Result<()> {
        let buffer = &self.buffer;
        write!(out, "buffer    {} at IOVA {}", buffer.size_bytes, buffer.iova)?;
        for (number, what) in [(buffer.ioases as u64, "IOASes"), (buffer.areas, "areas")] {
            if number > 1 {
                write!(out, ", {number} {what}")?;
            }
        }
        match &buffer.layout {
            None => writeln!(out, ", layout unknown (pagemap hides it)"),
            Some(layout) => writeln!(
                out,
                ", {} runs of {} to {}, median {}",
                unit::count(layout.runs),
                layout.shortest_run_bytes,
                layout.longest_run_bytes,
                layout.median_run_bytes
            ),
        }
    }

    /// Where it is not as usual.
    fn write_clock(&self, out: &mut dyn Write) -> io::Result<()> {
        let ClockReport { name, readings_per_call: 1, off_ns } = self.clock else {
            return Ok(());
        };
        write!(out, "clock     {name}, read once a call: service times hold the driver's own work")?;
        match off_ns {
            None => writeln!(out),
            Some(off) => writeln!(out, "; {} off CLOCK_MONOTONIC at the end", unit::nanos(off)),
        }
    }

    fn write_distributions(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{:<20}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "", "calls", "p50", "p90", "p99", "p99.9", "max"
        )?;
        latencies(out, "service", &self.service_ns)?;
        if let Some(response) = &self.response_ns {
            latencies(out, "response", response)?;
        }
        if let Some(runs) = &self.run_bytes {
            row(out, "run", runs, unit::bytes)?;
        }
        if let Some(churn) = &self.churn {
            latencies(out, "map", &churn.map_ns)?;
            latencies(out, "unmap", &churn.unmap_ns)?;
        }
        Ok(())
    }

    fn write_findings(&self, out: &mut dyn Write) -> io::Result<()> {
        for row in &self.deliberate {
            let verdict = match &row.expected {
                Some(_) if row.as_expected() => "as expected".to_owned(),
                Some(expected) => format!("EXPECTED {expected}"),
                None => "nothing known to expect".to_owned(),
            };
            writeln!(out, "on purpose: {} x {} gave {}, {verdict}", row.count, row.fault, row.outcome)?;
        }
        let Some(verdict) = &self.verify else {
            return Ok(());
        };
        let checked = unit::count(verdict.checked);
        writeln!(
            out,
            "verified  {checked} answers against /proc/self/pagemap, {} differ",
            verdict.differences
        )?;
        let Some(first) = &verdict.first else {
            return Ok(());
        };
        writeln!(
            out,
            "first     answer {} of thread {}, IOVA {:#x} (page {} of the buffer, a run of {} bytes from there): \
             asked for {} bytes, got {}, expected {}; the physical address is {}",
            first.answer,
            first.thread,
            first.iova,
            first.page,
            first.run_bytes,
            first.asked_bytes,
            first.got_bytes,
            first.expected_bytes,
            if first.phys_right { "right" } else { "WRONG" }
        )?;
        if let Some(phys) = first.phys {
            writeln!(out, "          out_phys {:#x}, expected {:#x}", phys.got, phys.expected)?;
        }
        Ok(())
    }
}

fn latencies(out: &mut dyn Write, name: &str, latencies: &Latencies) -> io::Result<()> {
    for (part, distribution) in [("", &latencies.ok), (", failed", &latencies.failed)] {
        if let Some(distribution) = distribution {
            row(out, &format!("{name}{part}"), distribution, unit::nanos)?;
        }
    }
    Ok(())
}

fn row(out: &mut dyn Write, name: &str, of: &Distribution, show: fn(u64) -> String) -> io::Result<()> {
    let figures = &of.figures;
    write!(out, "{name:<20}{:>10}", unit::count(figures.count))?;
    for value in [figures.p50, figures.p90, figures.p99, figures.p999, figures.max] {
        write!(out, "{:>10}", figures.shown(value, show).unwrap_or_else(|| "–".to_owned()))?;
    }
    writeln!(out)
}

/// A line a way; where caps were swept, a line a cap and the first cap at which GET_PA is the quickest.
fn compare(group: &[&JobReport], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nCOMPARED  {}: median service time", group[0].label)?;
    write!(out, "{:<20}", "cap")?;
    for job in group {
        write!(out, "{:>14}", job.via)?;
    }
    writeln!(out)?;
    let median = |of: Option<&Distribution>| of.and_then(|of| of.figures.shown(of.figures.p50, unit::nanos));
    let line = |out: &mut dyn Write, name: &str, values: &[Option<String>]| {
        write!(out, "{name:<20}")?;
        for value in values {
            write!(out, "{:>14}", value.as_deref().unwrap_or("–"))?;
        }
        writeln!(out)
    };
    let caps: Vec<u64> = group[0].by_cap.iter().map(|cap| cap.cap_bytes).collect();
    for &cap in &caps {
        let at = |job: &&JobReport| {
            let found: Option<&CapReport> = job.by_cap.iter().find(|one| one.cap_bytes == cap);
            median(found.map(|one| &one.service_ns))
        };
        line(out, &unit::bytes(cap), &group.iter().map(at).collect::<Vec<_>>())?;
    }
    let all: Vec<Option<String>> = group.iter().map(|job| median(job.service_ns.ok.as_ref())).collect();
    line(out, "all calls", &all)?;
    for (cap, winner) in quickest(group, &caps) {
        writeln!(out, "quickest from {} on: {winner}", unit::bytes(cap))?;
    }
    Ok(())
}

/// Where the quickest way changes: the caps at which it does, with the way from there on.
fn quickest<'a>(group: &[&'a JobReport], caps: &[u64]) -> Vec<(u64, &'a str)> {
    let mut changes: Vec<(u64, &str)> = Vec::new();
    for &cap in caps {
        let times = group.iter().filter_map(|job| {
            let one = job.by_cap.iter().find(|one| one.cap_bytes == cap)?;
            Some((one.service_ns.figures.p50?, job.via))
        });
        if let Some((_, winner)) = times.min()
            && changes.last().is_none_or(|(_, last)| *last != winner)
        {
            changes.push((cap, winner));
        }
    }
    changes
}

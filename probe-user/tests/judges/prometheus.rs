//! A real Prometheus scrapes what a lab run counted, and answers every query of every dashboard; promtool
//! checks the text and the rules.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use iovascope::recording::{Reader, Writer};
use probe_model::{metric, series};
use serde_json::Value;

use crate::process::{self, Process, get, serve, until};
use crate::tool;

/// Debian stable's.
pub(crate) const STABLE: &str = "/usr/bin/prometheus";
/// That of a later release: 3.x.
pub(crate) const LATER: &str = "/opt/prometheus-3/usr/bin/prometheus";

/// The lab's recording as if it had ended now: Prometheus takes no pushes from long ago.
pub(crate) fn recorded_now(folder: &Path) -> PathBuf {
    let whole = Reader::begin(tool::LAB_2, "lab".into()).unwrap().whole().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let shift = u64::try_from(now).unwrap() - whole.window.to.realtime;
    let mut reader = Reader::begin(tool::LAB_2, "lab".into()).unwrap();
    let mut header = reader.header().clone();
    header.started.realtime += shift;
    let path = folder.join("now.iova");
    let mut writer = Writer::begin(fs::File::create(&path).unwrap(), "now".into(), &header).unwrap();
    while let Some(sample) = reader.next_sample().unwrap() {
        let mut sample = sample.clone();
        sample.at.realtime += shift;
        writer.sample(sample).unwrap();
    }
    writer.end(&whole.end.unwrap()).unwrap();
    path
}

/// A Prometheus that runs.
pub(crate) struct Prometheus {
    _process: Process,
    url: String,
}

impl Prometheus {
    /// With these scrape jobs, as YAML.
    pub(crate) fn start(folder: &Path, program: &str, jobs: &str) -> Self {
        Self::start_with(folder, program, jobs, &["--enable-feature=native-histograms"])
    }

    /// The same with other options.
    pub(crate) fn start_with(folder: &Path, program: &str, jobs: &str, options: &[&str]) -> Self {
        let config = folder.join("prometheus.yml");
        let rules = "/lab/build/dashboards/prometheus/rules.yml";
        let text = format!(
            "global: {{scrape_interval: 300ms, evaluation_interval: 300ms}}\nrule_files: ['{rules}']\n\
             scrape_configs:\n{jobs}"
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .args(options);
        let (process, address) = process::start(&mut command, folder, ["Listening on", "address="]);
        let prometheus = Self { _process: process, url: format!("http://{address}") };
        until("it is ready", || get(&format!("{}/-/ready", prometheus.url)));
        prometheus
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Health and last error of a job's target, once it was scraped.
    pub(crate) fn target(&self, job: &str) -> (String, String) {
        until(&format!("the target of {job} is scraped"), || {
            let answer: Value = serde_json::from_str(&get(&format!("{}/api/v1/targets", self.url))?).unwrap();
            let targets = answer["data"]["activeTargets"].as_array()?;
            let target = targets.iter().find(|target| target["labels"]["job"] == job)?;
            let text = |key: &str| target[key].as_str().map(str::to_owned);
            Some((text("health").filter(|health| health != "unknown")?, text("lastError")?))
        })
    }

    fn query(&self, expression: &str) -> Option<Vec<Value>> {
        self.ask(expression, None)
    }

    /// What an expression has at a time, in ms since 1970 UTC; none while it has nothing there.
    pub(crate) fn query_at(&self, expression: &str, at: u64) -> Option<Vec<Value>> {
        self.ask(expression, Some(format!("{}.{:03}", at / 1000, at % 1000)))
    }

    fn ask(&self, expression: &str, time: Option<String>) -> Option<Vec<Value>> {
        let mut request = ureq::get(format!("{}/api/v1/query", self.url)).query("query", expression);
        if let Some(time) = time {
            request = request.query("time", time);
        }
        let mut response = match request.call() {
            Ok(response) => response,
            Err(ureq::Error::StatusCode(400)) => panic!("Prometheus does not understand {expression}"),
            Err(_) => return None,
        };
        let answer: Value = serde_json::from_reader(response.body_mut().as_reader()).ok()?;
        Some(answer["data"]["result"].as_array()?.clone()).filter(|rows| !rows.is_empty())
    }

    /// The first value of an expression, once it has one.
    pub(crate) fn value(&self, expression: &str) -> f64 {
        let rows = until(expression, || self.query(expression));
        rows[0]["value"][1].as_str().unwrap().parse().unwrap()
    }
}

#[test]
fn a_real_prometheus_takes_all_of_it() {
    takes_all(STABLE, "2.", "scrape_classic_histograms: true");
}

#[test]
fn a_later_prometheus_takes_all_of_it() {
    takes_all(LATER, "3.", "always_scrape_classic_histograms: true");
}

/// A Prometheus whose version begins so scrapes both kinds of histograms, by this line of its configuration.
fn takes_all(program: &str, version: &str, both: &str) {
    let folder = tool::folder(&format!("prometheus-{version}x"));
    let said = tool::stdout(Command::new(program).arg("--version"));
    assert!(said.contains(&format!("version {version}")), "{said}");
    let path = recorded_now(&folder);
    let whole = Reader::begin(tool::LAB_2, "lab".into()).unwrap().whole().unwrap();
    let (_server, url) = serve(&path, &[]);
    let job = format!(
        "- job_name: iovascope\n  {both}\n  static_configs: [{{targets: ['{}']}}]\n",
        process::address(&url)
    );
    let prometheus = Prometheus::start(&folder, program, &job);
    let mut compared = 0;
    for series in series::of(&whole.window.counters) {
        let Some(command) = series.name.strip_prefix("dispatch.").and_then(|name| name.strip_suffix(".ok"))
        else {
            continue;
        };
        let labels = format!("{{job=\"iovascope\",command=\"{command}\",outcome=\"ok\",instance!=\"\"}}");
        let name = metric::IOCTL.name;
        let histogram = &*series.histogram;
        #[allow(clippy::cast_precision_loss, reason = "a few thousand calls")]
        let count = histogram.count as f64;
        assert_eq!(prometheus.value(&format!("{name}_count{labels}")), count, "{command}");
        assert_eq!(prometheus.value(&format!("histogram_count({name}{labels})")), count, "{command}, native");
        // Of few values, a percentile lies anywhere between two of them.
        let percentiles: &[f64] = if histogram.count < 1000 { &[] } else { &[0.5, 0.9, 0.99] };
        compared += percentiles.len();
        for q in percentiles {
            // Of the classic buckets: the power of two that ours lies in.
            let ours = histogram.quantile(*q).upper().unwrap();
            let classic = 1e9 * prometheus.value(&format!("histogram_quantile({q}, {name}_bucket{labels})"));
            let (low, high) = (ours.next_power_of_two() / 2, ours.next_power_of_two());
            assert!(
                (low as f64 * 0.99..=high as f64 * 1.01).contains(&classic),
                "{command} {q}: {ours} {classic}"
            );
            // Of the native ones: within a bucket, 9 %, and one beside it.
            let native = 1e9 * prometheus.value(&format!("histogram_quantile({q}, {name}{labels})"));
            let ratio = native / ours as f64;
            assert!((0.82..=1.2).contains(&ratio), "{command} {q}: {ours} {native}");
        }
    }
    assert_eq!(compared, 3, "the percentiles of GET_PA");
    dashboards(&prometheus);
}

/// Every query of every panel has data, and every name in it is in the table.
fn dashboards(prometheus: &Prometheus) {
    let mut queries = 0;
    for file in fs::read_dir("/lab/build/dashboards/grafana").unwrap() {
        let path = file.unwrap().path();
        let board: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let query = target["expr"].as_str().unwrap();
                known(query);
                let query = query
                    .replace("$__rate_interval", "1m")
                    .replace("$__range", "1m")
                    .replace("$instance", ".+");
                let what = format!("{}: {}: {query}", path.display(), panel["title"]);
                until(&what, || prometheus.query(&query).or_else(|| undescribed(prometheus, &query)));
                queries += 1;
            }
        }
    }
    assert!(queries > 30, "{queries}");
}

/// The parts of a scan's cost have no value where no line describes the scans, and the linearity says that.
fn undescribed(prometheus: &Prometheus, query: &str) -> Option<Vec<Value>> {
    let none = r#"iovascope_scan_cost_linearity{is=~"too-few|one-length|not-linear|does-not-grow"} == 1"#;
    query.contains("iovascope_scan_cost_").then(|| prometheus.query(none))?
}

fn known(query: &str) {
    for word in
        query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("iovascope_"))
    {
        let ends = ["_total", "_bucket", "_sum", "_count", ""];
        let in_table = ends.iter().filter_map(|end| word.strip_suffix(end));
        assert!(
            in_table.into_iter().any(|name| metric::METRICS.iter().any(|metric| metric.name == name)),
            "{word} in {query}"
        );
    }
}

#[test]
fn promtool_finds_nothing_to_say() {
    let folder = tool::folder("promtool");
    let path = folder.join("lab.iova");
    fs::write(&path, tool::LAB_2).unwrap();
    let (_server, url) = serve(&path, &[]);
    let text = folder.join("metrics.txt");
    fs::write(&text, get(&url).unwrap()).unwrap();
    let checked = Command::new("/usr/bin/promtool")
        .args(["check", "metrics"])
        .stdin(fs::File::open(&text).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(checked.status.success() && said.trim().is_empty(), "{said}");
    for arguments in [["check", "rules", "rules.yml"], ["test", "rules", "rules.test.yml"]] {
        let mut command = Command::new("/usr/bin/promtool");
        command.args(arguments).current_dir("/lab/build/dashboards/prometheus");
        tool::stdout(&mut command);
    }
    for name in fs::read_to_string("/lab/build/dashboards/prometheus/rules.yml").unwrap().lines() {
        if name.contains("expr:") {
            known(
                &name
                    .replace(":p99_5m", " ")
                    .replace("instance:", " ")
                    .replace("iovascope_get_pa_duration_seconds", ""),
            );
        }
    }
}

#[test]
fn the_endpoint_keeps_its_limits() {
    let folder = tool::folder("limits");
    let token = folder.join("token");
    fs::write(&token, "secret\n").unwrap();
    let path = tool::recording(&folder);
    let (_server, url) = serve(&path, &["--token-file", token.to_str().unwrap()]);
    assert!(get(&url).is_none(), "no token, no metrics");
    let ask = || ureq::get(&url).header("authorization", "Bearer secret").call();
    assert!(ask().is_ok());
    // Forty clients that say nothing: the next one is answered or told to come back, and once they are
    // given up there is room again.
    let address = process::address(&url);
    let idle: Vec<_> = (0..40).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    match ask() {
        Ok(_) | Err(ureq::Error::StatusCode(503)) => {}
        Err(error) => panic!("{error}"),
    }
    for mut client in idle {
        let mut rest = Vec::new();
        // Ends when the server gives the client up.
        let _ = client.read_to_end(&mut rest);
    }
    assert!(ask().is_ok());
    let remote = tool::iovascope(&["serve", "--listen", "0.0.0.0:0"]).arg(&path).output().unwrap();
    assert_eq!(remote.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&remote.stderr).contains("--allow-remote"));
}

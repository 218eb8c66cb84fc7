//! A browser opens the HTML report, and a validator reads the JSON one.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::tool;

const FRAME: &str = include_str!("frame.html");
const PLOTS: [&str; 4] = [
    "Latency by percentile",
    "Latency over time",
    "Latency by scan length",
    "Run length by what ended the scan",
];

fn browser(folder: &Path) -> Command {
    let mut command = Command::new("/usr/lib/chromium/chromium-headless-shell");
    command.args(["--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]);
    command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    command
}

fn page(folder: &Path) -> String {
    let path = folder.join("report.html");
    let _ = fs::remove_file(&path);
    let recording = tool::rich_recording(folder);
    tool::stdout(tool::iovascope(&["report", "-f", "html", "-o"]).arg(&path).arg(recording));
    format!("file://{}", path.display())
}

#[test]
fn the_page_is_drawn_without_an_error_or_a_request() {
    let folder = tool::folder("page");
    let url = page(&folder);
    let log = folder.join("net.json");
    let output = browser(&folder)
        .arg(format!("--log-net-log={}", log.display()))
        .args(["--dump-dom", &url])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains(":CONSOLE"), "{said}");
    let dom = String::from_utf8(output.stdout).unwrap();
    for plot in
        ["Latency by percentile", "Latency over time", "Latency by scan length", "Run length by what ended"]
    {
        let begins = dom.find(&format!("aria-label=\"{plot}")).unwrap_or_else(|| panic!("no plot {plot:?}"));
        let svg = &dom[begins..begins + dom[begins..].find("</svg>").unwrap()];
        let drawn = svg.matches("class=\"line").count() + svg.matches("fill-opacity").count();
        assert!(drawn >= 2, "{plot}: {svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{plot}: {svg}");
    }
    // Whatever the browser itself may try, the page asks for nothing.
    let requests = fs::read_to_string(&log).unwrap();
    let asked: Vec<_> =
        requests.split("\"url\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let by_page =
        |url: &&&str| url.starts_with("http") && !url.contains("google") && !url.contains("gstatic");
    assert_eq!(asked.iter().filter(by_page).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert!(!dom.contains("<script") && !dom.contains("src=") && !dom.contains("@import"));
}

/// A phone and a desk, in pixels: width, and a height that the whole page fits in.
const SCREENS: [(u32, u32); 2] = [(360, 3400), (1440, 2600)];

#[test]
fn the_page_fits_a_phone_and_a_desk_in_light_and_dark() {
    let folder = tool::folder("screens");
    page(&folder);
    for (width, height) in SCREENS {
        let frame = folder.join(format!("frame-{width}.html"));
        let text = FRAME.replace("WIDTH", &width.to_string()).replace("HEIGHT", &height.to_string());
        fs::write(&frame, text).unwrap();
        let url = format!("file://{}", frame.display());
        for (name, scheme, paper, ink) in [
            ("light", 1, "rgb(255, 255, 255)", "rgb(27, 31, 36)"),
            ("dark", 0, "rgb(13, 17, 23)", "rgb(230, 237, 243)"),
        ] {
            let look = || {
                let mut command = browser(&folder);
                command.args([
                    "--allow-file-access-from-files",
                    &format!("--window-size={},{height}", width.max(500)),
                ]);
                command.arg(format!("--blink-settings=preferredColorScheme={scheme}"));
                command
            };
            let dom = tool::stdout(look().args(["--dump-dom", &url]));
            // The script, which has the word too, comes later.
            let seen: Value = serde_json::from_str(dom.split("SEEN").nth(1).unwrap()).unwrap();
            let what = format!("{width} {name}: {seen}");
            assert_eq!(seen["width"], width, "{what}");
            assert!(seen["needs"].as_u64() <= Some(width.into()), "it scrolls sideways: {what}");
            let plots = seen["plots"].as_array().unwrap();
            assert_eq!(
                plots.iter().map(|plot| plot["name"].as_str().unwrap()).collect::<Vec<_>>(),
                PLOTS,
                "{what}"
            );
            for plot in plots {
                let above = |key: &str, least: f64| plot[key].as_f64().unwrap() >= least;
                assert!(above("width", 300.0) && above("height", 90.0) && above("marks", 2.0), "{what}");
                assert!(plot["paper"] == paper && plot["ink"] == ink, "{what}");
            }
            // For who wants to look.
            let picture = folder.join(format!("{width}-{name}.png"));
            tool::stdout(look().arg(format!("--screenshot={}", picture.display())).arg(&url));
            assert!(fs::metadata(&picture).unwrap().len() > 20_000, "{}", picture.display());
        }
    }
}

#[test]
fn json_is_what_the_schema_says() {
    let folder = tool::folder("schema");
    let recording = tool::rich_recording(&folder);
    let report = tool::stdout(tool::iovascope(&["report", "-f", "json"]).arg(recording));
    let check = "import json, sys, jsonschema\n\
                 schema = json.load(open('/lab/build/docs/report.schema.json'))\n\
                 jsonschema.Draft202012Validator.check_schema(schema)\n\
                 jsonschema.validate(json.load(open(sys.argv[1])), schema)\n";
    let valid = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        Command::new("python3").args(["-c", check]).arg(path).output().unwrap()
    };
    let good = valid("good.json", &report);
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    // The schema can say no.
    for (from, to) in [("\"pages\": ", "\"page\": "), ("iovascope-report-1", "iovascope-report-2")] {
        let spoilt = report.replacen(from, to, 1);
        assert!(spoilt != report && !valid("bad.json", &spoilt).status.success(), "{from}");
    }
}

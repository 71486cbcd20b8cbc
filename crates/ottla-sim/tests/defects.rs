//! Each planted defect still applies: every hunk's old text stands in its file exactly once. `defects/run` builds them and
//! proves that the simulator notices.

use std::fs;
use std::path::Path;

#[test]
fn every_planted_defect_still_applies() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.ancestors().nth(2).unwrap();
    let mut count = 0;
    for entry in fs::read_dir(package.join("defects")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "patch")
        {
            continue;
        }
        let patch = fs::read_to_string(&path).unwrap();
        applies(root, &patch).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
        count += 1;
    }
    assert!(count >= 8, "only {count} defects are kept");
}

#[test]
fn a_patch_whose_file_moved_on_is_noticed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let patch = |old: &str| {
        format!(
            "scenario: group\n\n--- a/src/lib.rs\n+++ b/src/lib.rs\n@@ -1,1 +1,1 @@\n-{old}\n+x\n"
        )
    };
    assert!(applies(root, &patch("mod chaos;")).is_ok());
    assert!(applies(root, &patch("mod gone;")).is_err());
    assert!(applies(root, "scenario: group\n").is_err());
    assert!(applies(root, &patch("mod chaos;")[16..]).is_err());
}

fn applies(root: &Path, patch: &str) -> Result<(), String> {
    if !["produce", "group", "assign", "share", "transactions"]
        .iter()
        .any(|name| patch.starts_with(&format!("scenario: {name}\n")))
    {
        return Err("its first line names no scenario".to_owned());
    }
    let mut file = String::new();
    let mut hunks = 0;
    // What stands before the first hunk or file is for people.
    let mut old: Option<String> = None;
    for line in patch.lines().chain(["@@ end"]) {
        let ends = line.starts_with("@@") || line.starts_with("--- a/");
        if let Some(old) = old.take_if(|_| ends) {
            let found = file.matches(old.as_str()).count();
            if found != 1 {
                return Err(format!("this stands {found} times in its file:\n{old}"));
            }
            hunks += 1;
        }
        if let Some(path) = line.strip_prefix("--- a/") {
            file =
                fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"))?;
        } else if line.starts_with("@@") {
            old = Some(String::new());
        } else if let Some(old) = &mut old
            && let Some(text) = line.strip_prefix([' ', '-'])
        {
            old.push_str(text);
            old.push('\n');
        }
    }
    match hunks {
        0 => Err("it changes nothing".to_owned()),
        _ => Ok(()),
    }
}

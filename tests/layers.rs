//! The order of rooms, as the table "Rooms" in ARCHITECTURE.md gives it: a room imports rooms of lower
//! floors only, and none of its own floor. What may be named where is held here, too. A violation is told
//! with file, line and rule.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the core and the families may not name.
const OF_THE_MACHINE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "libc::",
    "nix::",
    "std::{",
    "SystemTime",
    "Instant::now",
];

struct Line {
    file: PathBuf,
    number: usize,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The lines of a file's own code: without comments, and without its tests at the end.
fn lines(file: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| Line { file: file.to_owned(), number: at + 1, text: line.to_owned() })
        .collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            // Files that hold nothing but tests.
            let name = path.file_name().unwrap().to_str().unwrap();
            if !matches!(name, "tests.rs" | "oracle.rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Crate, and the floor of each of its rooms.
fn floors() -> BTreeMap<String, BTreeMap<String, usize>> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = text.split("## Rooms").nth(1).expect("ARCHITECTURE.md has a section Rooms");
    let mut floors: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for line in
        table.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(|cell| cell.trim()).collect();
        let [krate, floor, rooms, ..] = cells[..] else { panic!("a row of three cells: {line}") };
        for room in rooms.split(',').map(|room| room.trim().trim_matches('`')) {
            floors
                .entry(krate.trim_matches('`').to_owned())
                .or_default()
                .insert(room.to_owned(), floor.parse().unwrap());
        }
    }
    assert_eq!(floors.len(), 3, "server-core, commands, src");
    floors
}

fn sources(krate: &str) -> PathBuf {
    if krate == "src" { root().join("src") } else { root().join(krate).join("src") }
}

/// The room a file is in: its folder, or itself.
fn room_of(krate: &str, file: &Path) -> String {
    let inside = file.strip_prefix(sources(krate)).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// What a line names behind `crate::`.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.split("crate::")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""))
}

/// A path that this test could not follow: several rooms behind one `crate::`, or `super::` up to the crate's
/// root.
fn hidden_path(sources: &Path, file: &Path, text: &str) -> Option<&'static str> {
    if text.contains("crate::{") || text.contains("crate::*") {
        return Some("crate::{..}");
    }
    // A folder's own file stands one floor higher than the files beside it; a module of tests one lower.
    let inside = file.strip_prefix(sources).unwrap();
    let depth = inside.components().count() - usize::from(inside.ends_with("mod.rs"));
    text.contains(&"super::".repeat(depth.max(1))).then_some("super:: to the root")
}

#[test]
fn paths_that_hide_a_room_are_found() {
    let sources = Path::new("/src");
    let hides = |file: &str, text: &str| hidden_path(sources, Path::new(file), text).is_some();
    assert!(hides("/src/data/keys.rs", "use crate::{data, server};"));
    assert!(hides("/src/data/keys.rs", "use super::super::server::Server;"));
    assert!(hides("/src/data/mod.rs", "use super::server::Server;"));
    assert!(hides("/src/host.rs", "use super::server::Server;"));
    assert!(!hides("/src/data/keys.rs", "use super::Dataset;"));
    assert!(!hides("/src/base/glob/mod.rs", "use super::disk::Disk;"));
    assert!(!hides("/src/data/keys.rs", "use crate::base::clock::Clock;"));
}

#[test]
fn rooms_import_lower_floors_only() {
    let mut broken = Vec::new();
    for (krate, rooms) in floors() {
        for file in files(&sources(&krate)) {
            let room = room_of(&krate, &file);
            if room == "lib" {
                continue;
            }
            let Some(floor) = rooms.get(&room) else {
                panic!("{}: the room {room} is in no row of the table", file.display())
            };
            for line in lines(&file) {
                if let Some(hidden) = hidden_path(&sources(&krate), &file, &line.text) {
                    broken.push(format!(
                        "{}:{}: {hidden} hides which room is imported; name it behind crate:: one by one",
                        line.file.display(),
                        line.number
                    ));
                }
                for other in named(&line.text).filter(|other| *other != room) {
                    let Some(above) = rooms.get(other).filter(|other| *other >= floor) else { continue };
                    broken.push(format!(
                        "{}:{}: {room} (floor {floor}) may not import {other} (floor {above}) of {krate}",
                        line.file.display(),
                        line.number
                    ));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn families_do_not_know_each_other() {
    let rooms = floors().remove("commands").unwrap();
    for file in files(&sources("commands")) {
        let room = room_of("commands", &file);
        for line in lines(&file) {
            let siblings: Vec<&str> =
                named(&line.text).filter(|other| *other != room && *other != "arguments").collect();
            assert!(
                room == "lib" || siblings.iter().all(|other| !rooms.contains_key(*other)),
                "{}:{}: a family imports no other: {}",
                line.file.display(),
                line.number,
                line.text
            );
        }
    }
}

#[test]
fn the_core_and_the_families_name_nothing_of_the_machine() {
    for krate in ["server-core", "commands"] {
        for file in files(&sources(krate)) {
            if file.ends_with("base/clock.rs") {
                continue;
            }
            for line in lines(&file) {
                let named = OF_THE_MACHINE.iter().find(|name| line.text.contains(**name));
                assert!(
                    named.is_none(),
                    "{}:{}: {krate} may not name {}; what it needs of the machine is in Host and Disk",
                    line.file.display(),
                    line.number,
                    named.unwrap_or(&"")
                );
            }
        }
    }
}

#[test]
fn only_the_data_can_change_the_keyspace() {
    for krate in ["server-core", "commands", "src"] {
        for file in files(&sources(krate)) {
            if room_of(krate, &file) == "data" {
                continue;
            }
            for line in lines(&file) {
                let named =
                    ["db_mut(", "&mut Keyspace", "Keyspace::new"].iter().find(|name| line.text.contains(**name));
                assert!(named.is_none(), "{}:{}: only data/ changes the keyspace", line.file.display(), line.number);
                let deadline =
                    line.text.contains("expire_at()") && (line.text.contains("<=") || line.text.contains("> now"));
                assert!(!deadline, "{}:{}: data/expiry.rs says what expired means", line.file.display(), line.number);
            }
        }
    }
}

#[test]
fn dispatch_knows_no_command_by_its_name() {
    let table = &tercel_commands::commands().table;
    for file in files(&sources("server-core").join("dispatch")) {
        for line in lines(&file) {
            for (_, spec) in table.all() {
                assert!(
                    !line.text.contains(&format!("\"{}\"", spec.name)),
                    "{}:{}: {} is a command's name; a flag or a function of its declaration says what is special",
                    line.file.display(),
                    line.number,
                    spec.name
                );
            }
        }
    }
}

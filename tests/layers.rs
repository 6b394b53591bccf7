//! The order of rooms, as the table "Rooms" in ARCHITECTURE.md gives it: a room imports rooms of lower
//! floors only, and none of its own floor. What may be named where is held here, too. A violation is told
//! with file, line and rule; a circle with its files.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
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
    "std as ",
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
    let all: Vec<&str> = text.lines().collect();
    // Tests in a file of their own are only declared here, and code follows.
    let begins_tests = |at: usize| {
        let item = all[at..].iter().find(|line| !line.starts_with("#["));
        all[at].starts_with("#[cfg(test)]") && item.is_some_and(|item| item.ends_with('{'))
    };
    let end = (0..all.len()).find(|at| begins_tests(*at)).unwrap_or(all.len());
    all[..end]
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| Line { file: file.to_owned(), number: at + 1, text: (*line).to_owned() })
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
                let is_keyspace = |path: &str| {
                    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(path.len());
                    path[..end].ends_with("Keyspace")
                };
                let owns = line.text.split("&mut ").skip(1).any(is_keyspace) || line.text.contains("Keyspace::new");
                assert!(
                    !owns && !line.text.contains("db_mut("),
                    "{}:{}: only data/ changes the keyspace",
                    line.file.display(),
                    line.number
                );
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
                let text = line.text.to_lowercase();
                assert!(
                    !text.contains(&format!("\"{}\"", spec.name)) && !text.contains(&format!("\"{}|", spec.name)),
                    "{}:{}: {} is a command's name; a flag or a function of its declaration says what is special",
                    line.file.display(),
                    line.number,
                    spec.name
                );
            }
        }
    }
}

/// The crates whose files import each other in one direction.
const ONE_WAY: [&str; 6] = ["engine", "rdb", "bench-harness", "server-core", "commands", "src"];
/// Those of them in which a folder's own file holds what the files below it add to, so that they may name it.
const FOLDERS_ARE_ROOMS: [&str; 5] = ["engine", "rdb", "server-core", "commands", "src"];

/// A name a file imports, as the names from its crate's root on, and what it is called there.
struct Import {
    names: Vec<String>,
    alias: String,
    handed_on: bool,
}

/// A file as a module; a folder's `mod.rs`, and the root's `lib.rs`, is the folder's.
struct Module {
    file: PathBuf,
    imports: Vec<Import>,
    /// The words of what is neither an import nor a declaration of a file.
    words: BTreeSet<String>,
}

/// Text without comments, its tests and the declarations of files of tests.
fn own_text(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut own = String::new();
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            own.extend([line, "\n"]);
            continue;
        }
        match lines.next() {
            Some(item) if item.ends_with(';') => {}
            Some(item) if !item.starts_with("mod ") => own.extend([item, "\n"]),
            _ => break,
        }
    }
    own
}

/// The names of a `use`, tree and all, each with what it is called.
fn leaves(tree: &str, before: &[String], into: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let (names, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
        let names = names.split("::").filter(|name| !name.is_empty() && *name != "self" || before.is_empty());
        let names: Vec<String> = before.iter().cloned().chain(names.map(|name| name.trim().to_owned())).collect();
        let alias = if alias.is_empty() { names.last().cloned().unwrap_or_default() } else { alias.trim().to_owned() };
        into.push((names, alias));
        return;
    };
    let before: Vec<String> = before
        .iter()
        .cloned()
        .chain(tree[..open].split("::").filter(|name| !name.is_empty()).map(str::to_owned))
        .collect();
    let (mut depth, mut from) = (0, open + 1);
    for (at, c) in tree.char_indices().skip_while(|(at, _)| *at <= open) {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                if !tree[from..at].trim().is_empty() {
                    leaves(&tree[from..at], &before, into);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// A path of a file as the names from its crate's root on, if it begins with one of `crate`, `super`, `self`, or
/// with a file that this one declares.
fn from_the_root(path: &[String], module: &[String], children: &BTreeSet<String>) -> Option<Vec<String>> {
    let supers = path.iter().take_while(|name| *name == "super").count();
    Some(match path.first()?.as_str() {
        "crate" => path[1..].to_vec(),
        "self" => [module, &path[1..]].concat(),
        "super" => [&module[..module.len().checked_sub(supers)?], &path[supers..]].concat(),
        child if children.contains(child) => [module, path].concat(),
        _ => return None,
    })
}

fn module(file: PathBuf, module: &[String]) -> Module {
    let visible = |line: &str| {
        line.trim_start()
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub(super) ")
            .trim_start_matches("pub ")
            .to_owned()
    };
    let (mut children, mut uses, mut rest) = (BTreeSet::new(), Vec::new(), String::new());
    let text = own_text(&file);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut statement = visible(line);
        if let Some(child) = statement.strip_prefix("mod ").and_then(|child| child.strip_suffix(';')) {
            children.insert(child.to_owned());
        } else if statement.starts_with("use ") {
            while !statement.ends_with(';') {
                statement.push_str(lines.next().expect("the end of a use"));
            }
            let mut found = Vec::new();
            leaves(statement["use ".len()..].trim_end_matches(';'), &[], &mut found);
            uses.extend(found.into_iter().map(|found| (found, line.trim_start().starts_with("pub"))));
        } else {
            rest.extend([line, "\n"]);
        }
    }
    let paths =
        rest.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | ':' | '$')).filter(|run| run.contains("::"));
    uses.extend(paths.map(|path| {
        let names: Vec<String> = path.split("::").map(str::to_owned).collect();
        ((names, String::new()), false)
    }));
    let imports = uses
        .into_iter()
        .filter_map(|((names, alias), handed_on)| {
            Some(Import { names: from_the_root(&names, module, &children)?, alias, handed_on })
        })
        .collect();
    let words = rest.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect();
    Module { file, imports, words }
}

/// Whose file a name is from: of the deepest module on its way, or of that which this one hands it on from.
fn home(modules: &BTreeMap<Vec<String>, Module>, names: &[String]) -> Vec<String> {
    let depth =
        (0..=names.len()).rev().find(|depth| modules.contains_key(&names[..*depth])).expect("the root at least");
    let (at, inside) = names.split_at(depth);
    let handed_on = |import: &&Import| import.handed_on && inside.first() == Some(&import.alias);
    match modules[at].imports.iter().find(handed_on) {
        // A name handed on under its own path would be looked for here again.
        Some(import) if import.names[..] != *names => home(modules, &[&import.names[..], &inside[1..]].concat()),
        _ => at.to_vec(),
    }
}

/// No file imports, by whatever way round, itself. What a folder's file hands on (`pub use child::Name`) it does
/// not import thereby, unless it uses the name as well: whoever imports the name from it imports the child's. Nor
/// does it by declaring a child (`mod child;`).
#[test]
fn crates_have_no_circles() {
    let mut circles = Vec::new();
    for krate in ONE_WAY {
        let sources = sources(krate);
        let mut modules = BTreeMap::new();
        for file in
            files(&sources).into_iter().filter(|file| !file.ends_with("main.rs") && !file.ends_with("model_tests.rs"))
        {
            let inside = file.strip_prefix(&sources).unwrap().with_extension("");
            let mut names: Vec<String> = inside.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
            names.pop_if(|last| last == "mod" || last == "lib");
            modules.insert(names.clone(), module(file, &names));
        }
        let mut imported: BTreeMap<&Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
        for (at, module) in &modules {
            let uses = |import: &&Import| !import.handed_on || module.words.contains(&import.alias);
            let homes = module.imports.iter().filter(uses).map(|import| home(&modules, &import.names));
            let is_own_folder = |home: &Vec<String>| {
                FOLDERS_ARE_ROOMS.contains(&krate) && home.len() < at.len() && at.starts_with(home)
            };
            imported.insert(at, homes.filter(|home| home != at && !is_own_folder(home)).collect());
        }
        let edges: usize = imported.values().map(BTreeSet::len).sum();
        assert!(edges >= modules.len(), "{krate}: {edges} imports of {} files are not all", modules.len());
        for start in modules.keys() {
            // The shortest way from a file back to itself, kept as where each file was come to from.
            let mut from: BTreeMap<&Vec<String>, &Vec<String>> = BTreeMap::new();
            let mut queue = std::collections::VecDeque::from([start]);
            while let Some(at) = queue.pop_front() {
                for next in &imported[at] {
                    if !from.contains_key(next) {
                        from.insert(next, at);
                        queue.push_back(next);
                    }
                }
            }
            let (mut way, mut at) = (vec![start], start);
            while let Some(before) = from.get(at).filter(|_| from.contains_key(start)) {
                way.push(before);
                at = before;
                if at == start {
                    break;
                }
            }
            if way.len() > 1 && way.iter().all(|other| start <= *other) {
                let files: Vec<String> = way
                    .iter()
                    .rev()
                    .map(|at| modules[*at].file.strip_prefix(root()).unwrap().display().to_string())
                    .collect();
                circles.push(files.join(" imports "));
            }
        }
    }
    assert!(circles.is_empty(), "files in a circle:\n{}", circles.join("\n"));
}

//! A docker archive as data that can be compared with a recording: see `testdata/record.py`, which reads the
//! peer's archives in the same way.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::rc::Rc;

use kiln_cache::Digest;
use serde_json::{Map, Value, json};

/// Longer or binary contents are recorded by their digest.
const SHOWN_BYTES: usize = 80;

/// Path → entry; names of one file share it.
type Tree = BTreeMap<String, Rc<Value>>;

/// The only image of an archive.
pub(super) struct Image {
    config: Value,
    /// Its first layer's name in the archive.
    bottom: String,
    tree: Tree,
}

impl Image {
    /// Reads a docker archive and applies its layers; that of `base`, an image of one layer, isn't read again.
    pub(super) fn read(archive: &[u8], base: Option<&Self>) -> Self {
        let mut blobs: HashMap<String, Vec<u8>> = HashMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            blobs.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        let json = |name: &str| -> Value { serde_json::from_slice(&blobs[name]).unwrap() };
        let manifest = &json("manifest.json")[0];
        let layers = manifest["Layers"].as_array().unwrap();
        let layers: Vec<&str> = layers.iter().map(|layer| layer.as_str().unwrap()).collect();
        let bottom = layers.first().map_or(String::new(), |layer| (*layer).to_owned());
        let known = base.filter(|base| base.bottom == bottom);
        let mut tree = known.map_or_else(Tree::new, |base| base.tree.clone());
        for layer in layers.iter().skip(usize::from(known.is_some())) {
            apply(&mut tree, &blobs[*layer]);
        }
        Self { config: json(manifest["Config"].as_str().unwrap()), bottom, tree }
    }

    /// What a recording holds of it: all but times and ids, and the files that differ from `base`.
    pub(super) fn recording(&self, base: &Image) -> Value {
        let mut recording = Map::new();
        for key in ["architecture", "variant", "os", "author"] {
            recording.insert(key.to_owned(), self.config[key].clone());
        }
        recording.insert("config".to_owned(), without_empty(self.config["config"].as_object().unwrap()));
        let mut history = self.config["history"].clone();
        for line in history.as_array_mut().unwrap() {
            line.as_object_mut().unwrap().remove("created");
        }
        recording.insert("history".to_owned(), history);
        let first = |image: &Image| image.config["rootfs"]["diff_ids"].get(0).cloned();
        let nothing = Tree::new();
        let base = if first(self) == first(base) { &base.tree } else { &nothing };
        recording.insert("files".to_owned(), difference(&self.tree, base));
        without_empty(&recording)
    }
}

fn without_empty(map: &Map<String, Value>) -> Value {
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    map.iter().filter(|(_, value)| !empty(value)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What was added, changed or removed, by path; a further name of a file says which it is of.
fn difference(tree: &Tree, base: &Tree) -> Value {
    let mut files = Map::new();
    let mut seen: HashMap<*const Value, &str> = HashMap::new();
    for (path, node) in tree {
        let first = *seen.entry(Rc::as_ptr(node)).or_insert(path);
        if first != path {
            files.insert(path.clone(), json!({"type": "hard link", "to": first}));
        } else if base.get(path) != Some(node) {
            files.insert(path.clone(), (**node).clone());
        }
    }
    for path in base.keys().filter(|path| !tree.contains_key(*path)) {
        files.insert(path.clone(), json!({"type": "removed"}));
    }
    Value::Object(files)
}

/// One entry of a layer.
struct Member {
    path: String,
    /// The path that a hard link names.
    link: Option<String>,
    node: Value,
}

/// Puts a layer onto `tree`: what it hides goes first.
fn apply(tree: &mut Tree, layer: &[u8]) {
    let mut archive = tar::Archive::new(layer);
    let members: Vec<Member> = archive.entries().unwrap().map(|entry| member(&mut entry.unwrap())).collect();
    for member in &members {
        let (above, name) = member.path.rsplit_once('/').unwrap();
        if name == ".wh..wh..opq" {
            remove_below(tree, above);
        } else if let Some(name) = name.strip_prefix(".wh.") {
            let hidden = format!("{above}/{name}");
            tree.remove(&hidden);
            remove_below(tree, &hidden);
        }
    }
    for Member { path, link, node } in members {
        if path == "/" || path.contains("/.wh.") {
            continue;
        }
        if node["type"] != "dir" {
            remove_below(tree, &path);
        }
        let node = link.map_or_else(|| Rc::new(node), |first| Rc::clone(&tree[&first]));
        tree.insert(path, node);
    }
}

fn remove_below(tree: &mut Tree, path: &str) {
    let prefix = format!("{path}/");
    tree.retain(|name, _| !name.starts_with(&prefix));
}

fn absolute(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path).into_owned();
    format!("/{}", text.trim_start_matches("./").trim_matches('/'))
}

fn member(entry: &mut tar::Entry<'_, &[u8]>) -> Member {
    use tar::EntryType;
    let mut xattrs = Map::new();
    for pax in entry.pax_extensions().unwrap().into_iter().flatten() {
        let pax = pax.unwrap();
        if let Some(name) = pax.key().unwrap().strip_prefix("SCHILY.xattr.") {
            let hex: String = pax.value_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            xattrs.insert(name.to_owned(), hex.into());
        }
    }
    let header = entry.header();
    let kind = header.entry_type();
    let path = absolute(&entry.path_bytes());
    let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
    let mut node = json!({"owner": format!("{}:{}", header.uid().unwrap(), header.gid().unwrap())});
    if kind == EntryType::Symlink {
        node["target"] = String::from_utf8_lossy(target.as_ref().unwrap()).into();
    } else {
        node["mode"] = format!("{:04o}", header.mode().unwrap() & 0o7777).into();
    }
    if matches!(kind, EntryType::Char | EntryType::Block) {
        let number = |part: std::io::Result<Option<u32>>| part.unwrap().unwrap();
        let (major, minor) = (number(header.device_major()), number(header.device_minor()));
        node["device"] = format!("{major}:{minor}").into();
    }
    node["type"] = match kind {
        EntryType::Directory => "dir",
        EntryType::Symlink => "link",
        EntryType::Fifo => "fifo",
        EntryType::Char => "char",
        EntryType::Block => "block",
        _ => "file",
    }
    .into();
    if !xattrs.is_empty() {
        node["xattrs"] = Value::Object(xattrs);
    }
    if node["type"] == "file" {
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        add_content(&mut node, content);
    }
    let link = target.filter(|_| kind == EntryType::Link).map(|target| absolute(&target));
    Member { path, link, node }
}

fn add_content(node: &mut Value, content: Vec<u8>) {
    let plain = content.iter().all(|byte| matches!(byte, b'\n' | b'\t' | b' '..=b'~'));
    if plain && content.len() <= SHOWN_BYTES {
        node["content"] = String::from_utf8(content).unwrap().into();
        return;
    }
    node["size"] = content.len().into();
    node["sha256"] = Digest::of(&content).hex().into();
}

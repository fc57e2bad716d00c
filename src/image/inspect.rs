//! An image as `docker inspect` shows it.

use kiln_cache::{Image, Store};
use serde_json::{Map, Value, json};

use super::error::{Error, Result};
use super::find;
use crate::oci::Reference;

/// Returns the members of docker's image JSON (API 1.44 and later) that kiln has values for.
pub fn inspect(store: &Store, image: &Image) -> Result<Value> {
    let config = find::config(store, image)?;
    let raw: Value = serde_json::from_slice(&store.read_blob(&image.id)?).map_err(|error| {
        Error::Document { what: "the config", image: image.id.to_string(), reason: error.to_string() }
    })?;
    let comment = config.history.last().and_then(|entry| entry.comment.clone()).unwrap_or_default();
    let layers: Vec<String> = config.rootfs.diff_ids.iter().map(ToString::to_string).collect();
    let mut out = Map::new();
    out.insert("Id".into(), image.id.to_string().into());
    out.insert("RepoTags".into(), familiar(&image.names).into());
    out.insert("RepoDigests".into(), familiar(&image.repo_digests).into());
    out.insert("Parent".into(), "".into());
    out.insert("Comment".into(), comment.into());
    out.insert("Created".into(), config.created.clone().unwrap_or_default().into());
    out.insert("Author".into(), config.author.clone().unwrap_or_default().into());
    out.insert("Architecture".into(), config.architecture.clone().into());
    if let Some(variant) = &config.variant {
        out.insert("Variant".into(), variant.clone().into());
    }
    out.insert("Os".into(), config.os.clone().into());
    out.insert("Size".into(), image.size.into());
    out.insert("GraphDriver".into(), json!({ "Name": "kiln", "Data": { "Layers": chain(store, image) } }));
    out.insert("RootFS".into(), json!({ "Type": "layers", "Layers": layers }));
    out.insert("Metadata".into(), json!({}));
    out.insert("Config".into(), run_config(raw.get("config")));
    Ok(Value::Object(out))
}

/// Docker always shows these members, with or without a value.
fn run_config(raw: Option<&Value>) -> Value {
    let mut config = match raw {
        Some(Value::Object(config)) => config.clone(),
        _ => Map::new(),
    };
    for (key, empty) in [
        ("User", json!("")),
        ("Env", Value::Null),
        ("Cmd", Value::Null),
        ("Volumes", Value::Null),
        ("WorkingDir", json!("")),
        ("Entrypoint", Value::Null),
        ("ExposedPorts", Value::Null),
        ("OnBuild", Value::Null),
        ("Labels", Value::Null),
    ] {
        config.entry(key).or_insert(empty);
    }
    Value::Object(config)
}

fn chain(store: &Store, image: &Image) -> Vec<String> {
    image.chain.iter().map(|id| store.snapshot_dir(id).display().to_string()).collect()
}

/// Returns names as users write them.
pub fn familiar(names: &[String]) -> Vec<String> {
    names
        .iter()
        .map(|name| Reference::parse(name).map_or_else(|_| name.clone(), |parsed| parsed.familiar()))
        .collect()
}

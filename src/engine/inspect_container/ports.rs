//! Ports of a container in docker's shape.

use serde_json::{Map, Value, json};

use crate::container::{Config, Record};

/// `NetworkSettings.Ports`: all that it names while it runs, published or not.
pub(super) fn bound(record: &Record) -> Map<String, Value> {
    if !record.state.status.is_alive() {
        return Map::new();
    }
    let mut shown: Map<_, _> = record.config.exposed.iter().map(|port| (port.clone(), Value::Null)).collect();
    let mut ports = record.state.ports.clone();
    ports.sort_by_key(|port| (port.address, port.host));
    for port in ports {
        let address = json!({ "HostIp": port.address.to_string(), "HostPort": port.host.to_string() });
        add(&mut shown, &format!("{}/{}", port.container, port.protocol.name()), address);
    }
    shown
}

/// `HostConfig.PortBindings`: what was asked for.
pub(super) fn bindings(config: &Config) -> Map<String, Value> {
    let mut shown = Map::new();
    for port in &config.ports {
        let host = match port.host {
            None => String::new(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        };
        let address = port.address.map_or(String::new(), |address| address.to_string());
        let name = format!("{}/{}", port.container, port.protocol.name());
        add(&mut shown, &name, json!({ "HostIp": address, "HostPort": host }));
    }
    shown
}

fn add(shown: &mut Map<String, Value>, port: &str, address: Value) {
    let all = shown.entry(port).or_insert(Value::Null);
    match all.as_array_mut() {
        Some(all) => all.push(address),
        None => *all = json!([address]),
    }
}

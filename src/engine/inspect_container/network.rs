//! `NetworkSettings`: the container's places in its networks, while it runs.

use serde_json::{Map, Value, json};

use crate::api::{NetworkMode, NetworkWish};
use crate::container::{Config, Endpoint, Record};
use crate::network;

/// Shows it in docker's shape. The addresses of the default bridge stand at the top too.
pub(super) fn settings(record: &Record) -> Value {
    let endpoints = &record.state.endpoints;
    let default = endpoints.iter().find(|endpoint| endpoint.network_name == "bridge");
    let pid = record.state.process.as_ref().map(|process| process.pid);
    let mut shown = json!({
        "Bridge": "",
        "SandboxID": pid.map_or("", |_| &record.id),
        // Where `nsenter --net=` finds the namespace.
        "SandboxKey": pid.map_or_else(String::new, |pid| format!("/proc/{pid}/ns/net")),
        "Ports": super::ports::bound(record),
    });
    let id = endpoint_id(record, default);
    let places = [address(default), json!({ "EndpointID": id, "MacAddress": mac(default) })];
    for (key, value) in places.into_iter().filter_map(object).flatten() {
        shown[key] = value;
    }
    let networks: Map<_, _> = network_names(&record.config)
        .into_iter()
        .map(|name| {
            let endpoint = endpoints.iter().find(|endpoint| endpoint.network_name == name);
            let wish = record.config.networks.iter().find(|wish| wish.name == name);
            let shown = one(record, endpoint, wish);
            (name, shown)
        })
        .collect();
    shown["Networks"] = networks.into();
    shown
}

fn one(record: &Record, endpoint: Option<&Endpoint>, wish: Option<&NetworkWish>) -> Value {
    let asked = wish.filter(|wish| wish.ip.is_some() || wish.ip6.is_some());
    let ipam = asked.map(|wish| {
        let mut ipam = Map::new();
        ipam.extend(wish.ip.map(|ip| ("IPv4Address".to_owned(), json!(ip))));
        ipam.extend(wish.ip6.map(|ip| ("IPv6Address".to_owned(), json!(ip))));
        ipam
    });
    let aliases = wish.map(|wish| &wish.aliases).filter(|aliases| !aliases.is_empty());
    let names = endpoint.filter(|endpoint| endpoint.has_names()).map(|endpoint| {
        let mut names = vec![record.name.clone(), record.short_id().to_owned()];
        names.extend(endpoint.aliases.iter().cloned());
        if !record.config.hostname.is_empty() {
            names.push(record.config.hostname.clone());
        }
        let mut told = std::collections::BTreeSet::new();
        names.retain(|name| told.insert(name.clone()));
        names
    });
    let mut shown = json!({
        "IPAMConfig": ipam,
        "Links": null,
        "Aliases": aliases,
        "MacAddress": mac(endpoint),
        "DriverOpts": null,
        "GwPriority": wish.map_or(0, |wish| wish.priority),
        "NetworkID": endpoint.map_or("", |endpoint| &endpoint.network),
        "EndpointID": endpoint_id(record, endpoint),
        "DNSNames": names,
    });
    for (key, value) in object(address(endpoint)).into_iter().flatten() {
        shown[key] = value;
    }
    shown
}

fn address(endpoint: Option<&Endpoint>) -> Value {
    let text = |shown: Option<String>| shown.unwrap_or_default();
    let address = endpoint.and_then(|endpoint| endpoint.address);
    let address6 = endpoint.and_then(|endpoint| endpoint.address6);
    let gateway = endpoint.and_then(|endpoint| endpoint.gateway);
    let gateway6 = endpoint.and_then(|endpoint| endpoint.gateway6);
    json!({
        "Gateway": text(gateway.map(|gateway| gateway.to_string())),
        "IPAddress": text(address.map(|address| address.addr().to_string())),
        "IPPrefixLen": address.map_or(0, |address| address.prefix_len()),
        "IPv6Gateway": text(gateway6.map(|gateway| gateway.to_string())),
        "GlobalIPv6Address": text(address6.map(|address| address.addr().to_string())),
        "GlobalIPv6PrefixLen": address6.map_or(0, |address| address.prefix_len()),
    })
}

/// Docker shows one while the container runs.
fn endpoint_id(record: &Record, endpoint: Option<&Endpoint>) -> String {
    endpoint.map_or_else(String::new, |endpoint| network::endpoint_id(&endpoint.network, &record.id))
}

fn mac(endpoint: Option<&Endpoint>) -> &str {
    endpoint.map_or("", |endpoint| &endpoint.mac)
}

fn object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(object) = value { Some(object) } else { None }
}

/// The names of a container's networks, in docker's words for those that aren't the user's.
pub(in crate::engine) fn network_names(config: &Config) -> Vec<String> {
    match config.network {
        NetworkMode::Bridge if config.networks.is_empty() && !config.unconnected => vec!["bridge".to_owned()],
        NetworkMode::Bridge => {
            let mut names: Vec<_> = config.networks.iter().map(|wish| wish.name.clone()).collect();
            names.sort();
            names
        }
        NetworkMode::None => vec!["none".to_owned()],
        NetworkMode::Host => vec!["host".to_owned()],
    }
}

/// What `HostConfig` calls the network of a container: the first one that was asked for, or none.
pub(super) fn network_mode(config: &Config) -> String {
    let shared = config.isolation.network.clone();
    let first = config.networks.first().map(|wish| wish.name.clone());
    let only = || network_names(config).into_iter().next();
    shared.or(first).or_else(only).unwrap_or_else(|| "none".to_owned())
}

//! `NetworkSettings`: the container's place in its network, while it runs.

use serde_json::{Value, json};

use crate::api::NetworkMode;
use crate::container::Record;

/// Shows it in docker's shape.
pub(super) fn network(record: &Record) -> Value {
    let place = record.state.endpoints.first();
    let address = place.and_then(|place| place.address);
    let prefix = address.map_or(0, |address| address.prefix_len());
    let address = address.map_or(String::new(), |address| address.addr().to_string());
    let gateway = place.and_then(|place| place.gateway).map_or(String::new(), |gateway| gateway.to_string());
    let mac = place.map_or("", |place| &place.mac);
    json!({
        "Bridge": place.map_or("", |place| &place.bridge),
        "SandboxID": "",
        "SandboxKey": "",
        "Ports": super::ports::bound(record),
        "EndpointID": "",
        "Gateway": gateway,
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": address,
        "IPPrefixLen": prefix,
        "IPv6Gateway": "",
        "MacAddress": mac,
        "Networks": { network_name(record.config.network): {
            "IPAMConfig": null,
            "Links": null,
            "Aliases": null,
            "MacAddress": mac,
            "DriverOpts": null,
            "GwPriority": 0,
            "NetworkID": "",
            "EndpointID": "",
            "Gateway": gateway,
            "IPAddress": address,
            "IPPrefixLen": prefix,
            "IPv6Gateway": "",
            "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0,
            "DNSNames": null,
        } },
    })
}

/// Docker's name of a network.
pub(in crate::engine) fn network_name(network: NetworkMode) -> &'static str {
    match network {
        NetworkMode::Bridge => "bridge",
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
    }
}

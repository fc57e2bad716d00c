//! `kiln network`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::Engine;
use super::containers::failure;
use crate::api::{
    EngineEvent, Failure, NetworkCreateRequest, NetworkInfo, NetworkMember, NetworkWish, SubnetInfo,
};
use crate::container::Containers;
use crate::network::{self, Lease, Network, Networks, Record};

/// The networks that are there without a record: their names and drivers.
const BUILTIN: [(&str, &str); 2] = [("host", "host"), ("none", NULL)];
/// The driver of `none`.
const NULL: &str = "null";

impl Engine {
    /// Makes a network; gives its id.
    pub fn network_create(&self, request: &NetworkCreateRequest) -> Result<String, Failure> {
        let containers = self.containers();
        self.tidy_networks();
        let network = containers.create_network(request).map_err(failure)?;
        self.tell_of_network("create", &network.record, None);
        Ok(network.record.id)
    }

    /// Lists the networks: those that come with kiln, then the oldest first.
    pub fn networks(&self) -> Result<Vec<NetworkInfo>, Failure> {
        self.tidy_networks();
        let networks = self.networks_of_store();
        let mut all = vec![info(&networks.default_network().map_err(of_network)?)?];
        all.extend(BUILTIN.map(builtin));
        for network in networks.networks().map_err(of_network)? {
            if !network.record.is_default() {
                all.push(info(&network)?);
            }
        }
        self.name_members(&mut all)?;
        Ok(all)
    }

    /// Finds one network by name, id or beginning of its id.
    pub fn network(&self, text: &str) -> Result<NetworkInfo, Failure> {
        self.tidy_networks();
        if let Some(known) = builtin_called(text) {
            return Ok(known);
        }
        let network = self.networks_of_store().find(text).map_err(of_network)?;
        let mut found = [info(&network)?];
        self.name_members(&mut found)?;
        let [found] = found;
        Ok(found)
    }

    /// Returns a network as docker's JSON.
    pub fn inspect_network(&self, text: &str) -> Result<Value, Failure> {
        Ok(shown(&self.network(text)?))
    }

    /// Removes a network that no running container is connected to.
    pub fn network_rm(&self, text: &str) -> Result<(), Failure> {
        let known = self.network(text)?;
        if known.is_builtin {
            let message = format!("{} is a network that kiln needs: it can't be removed", known.name);
            return Err(Failure::new(crate::api::FailureKind::Invalid, message)
                .hint("`kiln network ls --filter type=custom` shows those that can"));
        }
        let networks = self.networks_of_store();
        let network = networks.find(&known.id).map_err(of_network)?;
        let containers = self.containers();
        let user = |owner: &str| match owner.len() {
            64 => containers.find(owner).ok().filter(|it| it.state.status.is_alive()).map(|it| it.name),
            _ => Some(owner.to_owned()),
        };
        networks.remove_network(&network, &user).map_err(of_network)?;
        self.tell_of_network("destroy", &network.record, None);
        Ok(())
    }

    /// Removes the networks that no container is to be connected to and that `takes` takes; gives their names.
    pub fn network_prune(&self, takes: &dyn Fn(&NetworkInfo) -> bool) -> Result<Vec<String>, Failure> {
        let mut removed = Vec::new();
        let records = self.all_containers()?;
        let wanted = |info: &NetworkInfo| {
            let mut wishes = records.iter().flat_map(|record| &record.config.networks);
            wishes.any(|wish| wish.network == info.id || wish.name == info.name)
        };
        for known in self.networks()?.iter().filter(|known| !known.is_builtin && takes(known)) {
            if wanted(known) || !known.containers.is_empty() {
                continue;
            }
            match self.network_rm(&known.id) {
                Ok(()) => removed.push(known.name.clone()),
                // Used or removed by somebody else meanwhile.
                Err(failure)
                    if matches!(
                        failure.kind,
                        crate::api::FailureKind::Conflict | crate::api::FailureKind::NotFound
                    ) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(removed)
    }

    /// Connects a container to a network, at once when it runs.
    pub fn network_connect(&self, container: &str, wish: &NetworkWish) -> Result<(), Failure> {
        let record = self.container(container)?;
        let containers = self.containers();
        match builtin_called(&wish.network) {
            Some(none) if none.driver == NULL => {
                containers.connect_none(&record).map_err(failure)?;
                self.tell_of_builtin("connect", &none, &record.id);
            }
            Some(other) => return Err(unchangeable(&other.name)),
            None => {
                let network = containers.connect_network(&record, wish).map_err(failure)?;
                self.tell_of_network("connect", &network, Some(&record.id));
            }
        }
        Ok(())
    }

    /// Takes a container out of a network, at once when it runs.
    pub fn network_disconnect(&self, container: &str, network: &str) -> Result<(), Failure> {
        let record = self.container(container)?;
        let containers = self.containers();
        match builtin_called(network) {
            Some(none) if none.driver == NULL => {
                containers.disconnect_none(&record).map_err(failure)?;
                self.tell_of_builtin("disconnect", &none, &record.id);
            }
            Some(other) => return Err(unchangeable(&other.name)),
            None => {
                let (id, name) = containers.disconnect_network(&record, network).map_err(failure)?;
                self.tell_of((&id, &name, "bridge"), "disconnect", Some(&record.id));
            }
        }
        Ok(())
    }

    /// Finds the network that a build's steps join.
    pub(super) fn network_to_join(&self, text: &str) -> Result<Network, Failure> {
        self.networks_of_store().find(text).map_err(of_network)
    }

    fn networks_of_store(&self) -> Networks {
        Networks::new(&self.settings().root.join("networks"))
    }

    /// Puts right what killed kilns left of networks and of the containers in them.
    fn tidy_networks(&self) {
        self.reap_networks();
        // Looking at them is enough.
        if let Err(failure) = self.surveyed() {
            tracing::debug!(failure.message, "containers could not be looked at");
        }
    }

    /// Removes what killed kilns left; who may not, has not left anything either.
    pub(super) fn reap_networks(&self) {
        if let Err(error) = self.networks_of_store().reap() {
            tracing::debug!(%error, "networks could not be tidied up");
        }
    }

    fn name_members(&self, networks: &mut [NetworkInfo]) -> Result<(), Failure> {
        let containers = self.containers();
        for member in networks.iter_mut().flat_map(|network| &mut network.containers) {
            member.name = name_of(&containers, &member.id);
        }
        Ok(())
    }

    fn tell_of_network(&self, action: &str, record: &Record, container: Option<&str>) {
        self.tell_of((&record.id, &record.name, "bridge"), action, container);
    }

    fn tell_of_builtin(&self, action: &str, network: &NetworkInfo, container: &str) {
        self.tell_of((&network.id, &network.name, network.driver), action, Some(container));
    }

    /// Tells what happened to the network with this id, name and driver.
    fn tell_of(&self, (id, name, driver): (&str, &str, &str), action: &str, container: Option<&str>) {
        let mut attributes =
            BTreeMap::from([("name".to_owned(), name.to_owned()), ("type".to_owned(), driver.to_owned())]);
        attributes.extend(container.map(|id| ("container".to_owned(), id.to_owned())));
        let time = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let (kind, action, id) = ("network".to_owned(), action.to_owned(), id.to_owned());
        let event = EngineEvent { time, kind, action, id, attributes };
        crate::events::Log::new(&self.settings().root).tell(&[event]);
    }
}

fn builtin_called(text: &str) -> Option<NetworkInfo> {
    BUILTIN.into_iter().map(builtin).find(|it| it.name == text || it.id == text)
}

/// What a container can't come to and leave later.
fn unchangeable(network: &str) -> Failure {
    let message = format!("a container has the network `{network}` from its creation on, or never");
    let hint = format!("make one that has it: `kiln run --network {network}`");
    Failure::new(crate::api::FailureKind::Invalid, message).hint(hint)
}

/// Puts a network's error into the user's words.
pub(super) fn of_network(error: network::Error) -> Failure {
    failure(crate::container::Error::Network(error))
}

/// The name of a container, or what else has an address.
fn name_of(containers: &Containers, owner: &str) -> String {
    let known = (owner.len() == 64).then(|| containers.find(owner).ok()).flatten();
    known.map_or_else(|| owner.to_owned(), |record| record.name)
}

fn builtin((name, driver): (&str, &'static str)) -> NetworkInfo {
    NetworkInfo {
        // An id that no network of a record has.
        id: name.bytes().chain(std::iter::repeat(0)).take(32).map(|byte| format!("{byte:02x}")).collect(),
        name: name.to_owned(),
        driver,
        created: 0,
        subnets: Vec::new(),
        internal: false,
        ipv6: false,
        attachable: false,
        is_builtin: true,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        containers: Vec::new(),
    }
}

fn info(network: &Network) -> Result<NetworkInfo, Failure> {
    let record = &network.record;
    let mut subnets: Vec<SubnetInfo> = Vec::new();
    if let Some(subnet) = &record.subnet {
        let aux = subnet.aux.iter().map(|(name, at)| (name.clone(), IpAddr::V4(*at))).collect();
        let (net, range) = (IpNet::V4(subnet.net), subnet.range.map(IpNet::V4));
        subnets.push(SubnetInfo { net, gateway: subnet.gateway.into(), range, aux });
    }
    if let Some(subnet) = &record.subnet6 {
        let aux = subnet.aux.iter().map(|(name, at)| (name.clone(), IpAddr::V6(*at))).collect();
        let (net, range) = (IpNet::V6(subnet.net), subnet.range.map(IpNet::V6));
        subnets.push(SubnetInfo { net, gateway: subnet.gateway.into(), range, aux });
    }
    let members = network.members().map_err(of_network)?;
    Ok(NetworkInfo {
        id: record.id.clone(),
        name: record.name.clone(),
        driver: "bridge",
        created: record.created,
        internal: record.internal,
        ipv6: record.subnet6.is_some(),
        attachable: record.attachable,
        is_builtin: record.is_default(),
        labels: record.labels.clone(),
        options: record.shown_options(),
        containers: members.iter().map(|lease| member(lease, &subnets)).collect(),
        subnets,
    })
}

fn member(lease: &Lease, subnets: &[SubnetInfo]) -> NetworkMember {
    let with_prefix = |address: IpAddr| {
        let net = subnets.iter().find(|subnet| subnet.net.contains(&address));
        net.map_or_else(String::new, |subnet| format!("{address}/{}", subnet.net.prefix_len()))
    };
    let mac: Vec<_> = lease.mac.iter().map(|byte| format!("{byte:02x}")).collect();
    NetworkMember {
        id: lease.owner.clone(),
        name: String::new(),
        mac: mac.join(":"),
        address: with_prefix(lease.address.into()),
        address6: lease.address6.map_or_else(String::new, |address| with_prefix(address.into())),
    }
}

/// Docker's shape.
fn shown(network: &NetworkInfo) -> Value {
    let config = |subnet: &SubnetInfo| {
        let mut config = Map::new();
        config.insert("Subnet".to_owned(), subnet.net.to_string().into());
        config.extend(subnet.range.map(|range| ("IPRange".to_owned(), range.to_string().into())));
        config.insert("Gateway".to_owned(), subnet.gateway.to_string().into());
        if !subnet.aux.is_empty() {
            config.insert("AuxiliaryAddresses".to_owned(), json!(subnet.aux));
        }
        Value::Object(config)
    };
    let container = |member: &NetworkMember| {
        let value = json!({
            "Name": member.name,
            "EndpointID": network::endpoint_id(&network.id, &member.id),
            "MacAddress": member.mac,
            "IPv4Address": member.address,
            "IPv6Address": member.address6,
        });
        (member.id.clone(), value)
    };
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": super::inspect_container::time(Some(network.created)),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": true,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": {},
            "Config": network.subnets.iter().map(config).collect::<Vec<_>>(),
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": network.containers.iter().map(container).collect::<Map<_, _>>(),
        "Options": network.options,
        "Labels": network.labels,
    })
}

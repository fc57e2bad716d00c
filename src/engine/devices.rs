//! Devices that a container is given by their CDI names.

use super::Engine;
use crate::api::{CreateRequest, Failure, MountKind, MountRequest, Propagation, Recursion};
use crate::cdi;
use crate::runtime::Mount;

impl Engine {
    /// Puts nodes, mounts, variables and groups in the places of `--device vendor/class=name`; `None` without any.
    pub(super) fn with_devices(&self, request: &CreateRequest) -> Result<Option<CreateRequest>, Failure> {
        let (named, paths): (Vec<_>, Vec<_>) =
            request.isolation.devices.iter().cloned().partition(|text| is_name(text));
        if named.is_empty() {
            return Ok(None);
        }
        let wanted: Vec<_> = named.iter().map(|name| (name.as_str(), true)).collect();
        let edits = cdi::edits(&wanted, &self.settings.cdi).map_err(|failure| *failure)?;
        let mut request = request.clone();
        request.isolation.devices = paths;
        request.env.extend(edits.env);
        request.isolation.group_add.extend(edits.groups);
        for mount in edits.mounts {
            match mount {
                Mount::Device { source, target } => {
                    request.isolation.devices.push(format!("{}:{target}", source.display()));
                }
                Mount::Bind { source, target, readonly, .. } => request.mounts.push(MountRequest {
                    kind: MountKind::Bind {
                        source: source.display().to_string(),
                        create: false,
                        recursion: Recursion::default(),
                        propagation: Propagation::default(),
                    },
                    target,
                    readonly,
                    is_long: false,
                }),
                // A spec has no others.
                Mount::Layers { .. } | Mount::Tmpfs { .. } | Mount::File { .. } => {}
            }
        }
        Ok(Some(request))
    }
}

/// Tells a name such as `vendor/class=name` from a path.
fn is_name(text: &str) -> bool {
    let named = text.split_once('=').filter(|(_, name)| !text.starts_with('/') && !name.is_empty());
    named.is_some_and(|(kind, _)| kind.split('/').count() == 2)
}

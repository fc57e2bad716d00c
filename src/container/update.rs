//! Changing what a container may use up, and when it is started again.

use super::error::{Error, Result};
use super::record::Record;
use super::{Containers, spec};
use crate::api::{Resources, RestartPolicy, UpdateRequest};

impl Containers {
    /// Changes a container, at once when it runs. What the request doesn't say stays; nothing changes when a part of it
    /// is refused.
    pub fn update(&self, record: &Record, request: &UpdateRequest) -> Result<()> {
        let folder = self.folder(&record.id);
        let (before, after) = {
            let _names = self.lock_names()?;
            let before = Record::read(&folder)?;
            let mut after = before.clone();
            merge(&mut after.config.resources, &request.resources);
            spec::limits::check(&after.config.resources)?;
            if let Some(policy) = request.restart {
                if after.config.remove && policy != RestartPolicy::No {
                    let message = "`--restart` can't be changed: the container has `--rm`".to_owned();
                    return Err(Error::Invalid { message });
                }
                after.config.restart = policy;
            }
            after.write_config(&folder)?;
            (before, after)
        };
        if let Err(error) = self.tell_update(&after) {
            let _names = self.lock_names()?;
            let now = Record::read(&folder)?;
            Record { config: before.config, ..now }.write_config(&folder)?;
            return Err(error);
        }
        self.tell(&after, "update", &[]);
        Ok(())
    }
}

/// Puts what `changes` say in the place of `resources`.
fn merge(resources: &mut Resources, changes: &Resources) {
    fn take<T: Clone>(place: &mut Option<T>, change: &Option<T>) {
        if change.is_some() {
            place.clone_from(change);
        }
    }
    // One way to say it takes the place of the other.
    if changes.cpus_millis.is_some() {
        (resources.cpu_period, resources.cpu_quota) = (None, None);
    } else if changes.cpu_quota.is_some() || changes.cpu_period.is_some() {
        resources.cpus_millis = None;
    }
    take(&mut resources.memory, &changes.memory);
    take(&mut resources.memory_swap, &changes.memory_swap);
    take(&mut resources.memory_reservation, &changes.memory_reservation);
    take(&mut resources.cpus_millis, &changes.cpus_millis);
    take(&mut resources.cpu_shares, &changes.cpu_shares);
    take(&mut resources.cpu_period, &changes.cpu_period);
    take(&mut resources.cpu_quota, &changes.cpu_quota);
    take(&mut resources.cpu_rt_period, &changes.cpu_rt_period);
    take(&mut resources.cpu_rt_runtime, &changes.cpu_rt_runtime);
    take(&mut resources.cpuset_cpus, &changes.cpuset_cpus);
    take(&mut resources.cpuset_mems, &changes.cpuset_mems);
    take(&mut resources.pids_limit, &changes.pids_limit);
    take(&mut resources.blkio_weight, &changes.blkio_weight);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays() {
        let mut resources =
            Resources { memory: Some(1), pids_limit: Some(5), cpu_quota: Some(7), ..Resources::default() };
        merge(
            &mut resources,
            &Resources { pids_limit: Some(-1), cpus_millis: Some(500), ..Resources::default() },
        );
        let expected = Resources {
            memory: Some(1),
            pids_limit: Some(-1),
            cpus_millis: Some(500),
            ..Resources::default()
        };
        assert_eq!(resources, expected);
    }
}

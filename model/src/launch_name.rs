//! How an agent names the tasks of frameworks: Mesos' task ids are unique within one framework, and may come again.

use crate::{FrameworkId, TaskId};

/// Between the parts of a launch's name; no framework id has it, nor has any task id that Marathon makes.
const BETWEEN: char = ':';

/// The name of one launch on its agent. `nonce` tells it from earlier launches of the same id.
pub fn launch_name(framework: &FrameworkId, nonce: u32, task: &TaskId) -> TaskId {
    TaskId::new(format!("{framework}{BETWEEN}{nonce:08x}{BETWEEN}{task}"))
}

/// The framework and the task that a launch's name stands for; `None` for a task of Marathon's.
pub fn launched_task(name: &TaskId) -> Option<(FrameworkId, TaskId)> {
    let mut parts = name.as_str().splitn(3, BETWEEN);
    let (framework, nonce, task) = (parts.next()?, parts.next()?, parts.next()?);
    let is_nonce = nonce.len() == 8 && u32::from_str_radix(nonce, 16).is_ok();
    (is_nonce && !framework.is_empty()).then(|| (FrameworkId::new(framework), TaskId::new(task)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_task() {
        let framework = FrameworkId::new("c-0001");
        for id in ["1", "a:b", "::", "deadbeef:x"] {
            let name = launch_name(&framework, 7, &TaskId::new(id));
            assert_eq!(launched_task(&name), Some((framework.clone(), TaskId::new(id))));
        }
        for other in ["a_b.instance-1._app.1", "a:b:c", "", ":00000007:x"] {
            assert_eq!(launched_task(&TaskId::new(other)), None, "{other}");
        }
    }
}

//! The one door through which the engine's tasks begin, so that a simulation knows which of them belong to which node.

/// Starts a task of the node. It ends with its runtime, or with the simulated node it belongs to.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    #[cfg(any(test, feature = "simulation"))]
    if let Some(scope) = crate::simulation::Scope::current() {
        scope.spawn(task);
        return;
    }
    tokio::spawn(task);
}

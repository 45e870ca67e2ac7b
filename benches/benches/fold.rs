//! What one task event costs in the fold, by cluster size.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use benches::cluster;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use model::{ServiceTable, TaskEvent, TaskState, VipRange};

fn one_status(c: &mut Criterion) {
    let mut group = c.benchmark_group("fold/one_status_update");
    for services in [10u32, 100, 1_000] {
        let mut table = ServiceTable::new(VipRange::default());
        table.apply(TaskEvent::Snapshot(cluster::state(services, 10)));
        let mut healthy = false;
        group.bench_with_input(BenchmarkId::from_parameter(services), &services, |b, _| {
            b.iter(|| {
                healthy = !healthy;
                table.apply(cluster::status(0, 0, TaskState::Running, Some(healthy)))
            });
        });
    }
    group.finish();
}

fn whole_snapshot(c: &mut Criterion) {
    let state = cluster::state(1_000, 10);
    c.bench_function("fold/snapshot_of_10_000_tasks", |b| {
        b.iter(|| ServiceTable::new(VipRange::default()).apply(TaskEvent::Snapshot(state.clone())));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = one_status, whole_snapshot
}
criterion_main!(benches);

//! Round trips, limits and truncation of the wire format.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use model::{
    AgentId, CheckAddress, CheckResponse, CheckResult, CheckResults, Command, Container, ContainerKind, Extract, Fetch,
    FetchCache, FetchPermission, FrameworkId, HealthCheck, Image, Ipc, KillPolicy, LaunchSpec, Parameter,
    PersistentVolume, PodMount, PodPart, PortMapping, PortScope, Privilege, Probe, Protocol, Pull, ReadinessCheck,
    ReadinessResult, ReadyRule, Reason, Resources, Scheme, Seccomp, Secrets, TaskChecks, TaskId, TaskNetwork, TaskPort,
    TaskState, TaskStatus, Volume, VolumeMode,
};
use proptest::prelude::*;
use scheduler::{InstanceId, Registered, Registration, ReportedTask};
use tokio_util::codec::{Decoder as _, Encoder as _};

use super::*;

type Codec = FrameCodec<AgentMessage, AgentMessage>;

fn results() -> impl Strategy<Value = CheckResults> {
    let health = (
        any::<Option<bool>>(),
        any::<u32>(),
        any::<[Option<u64>; 3]>(),
        any::<Option<String>>(),
    )
        .prop_map(|(alive, failures, times, cause)| CheckResult {
            alive,
            failures,
            first_success_ms: times[0],
            last_success_ms: times[1],
            last_failure_ms: times[2],
            cause,
        });
    let response = any::<Option<(u16, String, String)>>().prop_map(|response| {
        response.map(|(status, content_type, body)| CheckResponse {
            status,
            content_type,
            body,
        })
    });
    let readiness = (any::<bool>(), response).prop_map(|(ready, response)| ReadinessResult { ready, response });
    (
        proptest::collection::vec(health, 0..3),
        proptest::collection::vec(readiness, 0..2),
    )
        .prop_map(|(health, readiness)| CheckResults { health, readiness })
}

fn checks() -> impl Strategy<Value = TaskChecks> {
    let at = proptest::sample::select(vec![
        CheckAddress::Task,
        CheckAddress::LoopbackV4,
        CheckAddress::LoopbackV6,
    ]);
    let probe = (at, any::<u16>(), any::<String>(), any::<bool>(), 0..3).prop_map(|(at, port, path, flag, kind)| {
        let scheme = if flag { Scheme::Https } else { Scheme::Http };
        match kind {
            0 => Probe::Command(Command::Shell(path)),
            1 => Probe::Tcp { at, port },
            _ => Probe::Http {
                scheme,
                at,
                port,
                path,
                ignore_1xx: flag,
            },
        }
    });
    let times = any::<[u32; 4]>().prop_map(|ms| ms.map(|ms| Duration::from_millis(ms.into())));
    let health = (probe, times, any::<u32>()).prop_map(|(probe, times, max_failures)| HealthCheck {
        probe,
        delay: times[0],
        interval: times[1],
        timeout: times[2],
        grace: times[3],
        max_failures,
    });
    let codes = proptest::collection::btree_set(any::<u16>(), 0..3);
    let readiness =
        (any::<String>(), any::<bool>(), any::<u16>(), codes).prop_map(|(text, flag, port, ready_codes)| {
            ReadinessCheck {
                name: text.clone(),
                scheme: if flag { Scheme::Https } else { Scheme::Http },
                port,
                path: text,
                interval: Duration::from_secs(3),
                timeout: Duration::from_secs(2),
                ready_codes,
                keep_response: flag,
            }
        });
    (
        proptest::collection::vec(health, 0..3),
        proptest::collection::vec(readiness, 0..2),
    )
        .prop_map(|(health, readiness)| TaskChecks { health, readiness })
}

fn status() -> impl Strategy<Value = TaskStatus> {
    let state = proptest::sample::select(TaskState::ALL.to_vec());
    let addresses = proptest::collection::vec(any::<IpAddr>(), 0..3);
    (
        state,
        any::<Option<bool>>(),
        addresses,
        any::<Option<String>>(),
        results(),
        any::<u64>(),
    )
        .prop_map(
            |(state, healthy, addresses, message, checks, timestamp_ms)| TaskStatus {
                state,
                reason: (timestamp_ms % 2 == 0).then_some(Reason::ContainerLaunchFailed),
                healthy,
                addresses,
                message,
                checks: Box::new(checks),
                timestamp_ms,
            },
        )
}

fn map() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map(any::<String>(), any::<String>(), 0..4)
}

fn port() -> impl Strategy<Value = TaskPort> {
    (
        any::<u16>(),
        any::<Option<String>>(),
        any::<bool>(),
        any::<bool>(),
        map(),
    )
        .prop_map(|(number, name, udp, container, labels)| TaskPort {
            number,
            name,
            protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
            scope: if container {
                PortScope::Container
            } else {
                PortScope::Host
            },
            labels: labels.into_iter().collect(),
        })
}

/// Each bit of the number is one choice.
fn container(bits: u64) -> Container {
    let bit = |number: u32| bits & (1 << number) != 0;
    if bit(0) {
        return Container::default();
    }
    Container {
        kept: vec![model::KeptVolume {
            owner: "volume-1".to_owned(),
            container_path: "kept".to_owned(),
        }],
        kind: if bit(1) {
            ContainerKind::Docker
        } else {
            ContainerKind::Mesos
        },
        image: bit(2).then(|| Image {
            name: "busybox:1".to_owned(),
            pull: if bit(3) { Pull::Always } else { Pull::IfMissing },
            credentials: bit(4).then(|| "team".to_owned()),
        }),
        privilege: if bit(5) { Privilege::Full } else { Privilege::Confined },
        parameters: vec![Parameter::parse("add-host", "a:10.0.0.1").expect("valid")],
        volumes: vec![Volume {
            container_path: "/data".to_owned(),
            host_path: "data".to_owned(),
            mode: if bit(6) {
                VolumeMode::ReadOnly
            } else {
                VolumeMode::ReadWrite
            },
        }],
        persistent: vec![PersistentVolume {
            container_path: "data".to_owned(),
            size_mb: 100,
        }],
        secrets: Secrets {
            sources: [("pw".to_owned(), "team/db".to_owned())].into(),
            env: [("PASSWORD".to_owned(), "pw".to_owned())].into(),
            files: vec![("pw.txt".to_owned(), "pw".to_owned())],
        },
        seccomp: if bit(7) { Seccomp::Unconfined } else { Seccomp::Default },
        ipc: if bit(8) { Ipc::Node } else { Ipc::Private },
        shm_mb: bit(9).then_some(8),
    }
}

fn fetch(bits: u64) -> Vec<Fetch> {
    let bit = |number: u32| bits & (1 << number) != 0;
    let one = Fetch {
        uri: "http://a.example/x".to_owned(),
        extract: if bit(1) { Extract::Never } else { Extract::Archives },
        permission: if bit(2) {
            FetchPermission::Executable
        } else {
            FetchPermission::Data
        },
        cache: if bit(3) { FetchCache::Keep } else { FetchCache::None },
        dest: bit(4).then(|| "y".to_owned()),
    };
    bit(0).then_some(one).into_iter().collect()
}

fn spec() -> impl Strategy<Value = LaunchSpec> {
    let command = prop_oneof![
        any::<String>().prop_map(Command::Shell),
        proptest::collection::vec(any::<String>(), 0..3).prop_map(Command::Argv)
    ];
    let ready = prop_oneof![
        Just(ReadyRule::AtStart),
        proptest::collection::vec(any::<u16>(), 0..3).prop_map(|ports| ReadyRule::WhenListening {
            ports,
            within: Duration::from_millis(1500)
        })
    ];
    let network = any::<Option<String>>().prop_map(|name| match name {
        None => TaskNetwork::Host,
        Some(name) => TaskNetwork::Container { name },
    });
    let text = (any::<String>(), any::<String>(), any::<Option<String>>());
    let lists = (
        proptest::collection::vec(port(), 0..3),
        proptest::collection::vec(any::<u16>(), 0..3),
    );
    let maps = (map(), map());
    (text, command, maps, network, ready, lists, checks(), any::<[u64; 3]>()).prop_map(
        |((task, name, user), command, (env, labels), network, ready, (ports, host_ports), checks, sizes)| LaunchSpec {
            task: TaskId::new(task),
            name,
            framework: FrameworkId::new("f"),
            command,
            user,
            container: container(sizes[2]),
            fetch: fetch(sizes[1]),
            env,
            resources: Resources {
                cpus_milli: sizes[0],
                mem_mb: sizes[1],
                disk_mb: sizes[2],
            },
            network,
            ports,
            mappings: host_ports
                .iter()
                .map(|port| PortMapping {
                    host_port: *port,
                    container_port: 80,
                    protocol: Protocol::Tcp,
                })
                .collect(),
            host_ports,
            labels,
            ready,
            checks,
            kill: KillPolicy {
                drain: Duration::from_nanos(sizes[0]),
                grace: Duration::from_millis(3),
            },
            pod: pod(sizes[0]),
        },
    )
}

fn pod(seed: u64) -> Option<Box<PodPart>> {
    (seed.is_multiple_of(2)).then(|| {
        Box::new(PodPart {
            instance: format!("p.instance-{seed}"),
            members: vec![TaskId::new(format!("p.instance-{seed}.web.1")), TaskId::new("b")],
            mounts: vec![PodMount {
                volume: "data".to_owned(),
                container_path: "data".to_owned(),
                mode: if seed.is_multiple_of(4) {
                    VolumeMode::ReadOnly
                } else {
                    VolumeMode::ReadWrite
                },
            }],
        })
    })
}

fn message() -> impl Strategy<Value = AgentMessage> {
    let tasks = proptest::collection::vec((spec(), status()), 0..3);
    let registration =
        (any::<Option<String>>(), any::<[u8; 4]>(), map(), tasks).prop_map(|(id, ip, attributes, tasks)| {
            AgentMessage::Register(Box::new(Registration {
                agent: id.map(AgentId::new),
                hostname: "h".to_owned(),
                ip: ip.into(),
                http_port: 5051,
                resources: Resources::default(),
                ports: vec![(31000, 32000)],
                attributes,
                domain: scheduler::Domain::default(),
                taken: Vec::new(),
                tasks: tasks
                    .into_iter()
                    .map(|(spec, status)| ReportedTask { spec, status })
                    .collect(),
            }))
        });
    let told = (any::<u64>(), any::<String>(), status()).prop_map(|(sequence, task, status)| AgentMessage::Status {
        sequence,
        task: TaskId::new(task),
        status,
    });
    let gone = any::<String>().prop_map(|owner| AgentMessage::VolumesGone(InstanceId(owner)));
    prop_oneof![registration, told, gone, Just(AgentMessage::Heartbeat)]
}

proptest! {
    #[test]
    fn messages_come_back_as_sent_however_the_stream_is_cut(messages in proptest::collection::vec(message(), 1..4), cut in 1usize..40) {
        let mut sent = BytesMut::new();
        for message in &messages {
            Codec::default().encode(message.clone(), &mut sent).expect("encoded");
        }
        let (mut codec, mut buffer, mut got) = (Codec::default(), BytesMut::new(), Vec::new());
        for piece in sent.chunks(cut) {
            buffer.put_slice(piece);
            while let Some(message) = codec.decode(&mut buffer).expect("decoded") {
                got.push(message);
            }
        }
        prop_assert_eq!(got, messages);
        prop_assert!(codec.decode_eof(&mut buffer).expect("clean end").is_none());
    }

    #[test]
    fn launches_come_back_as_sent(spec in spec()) {
        let message = MasterMessage::Launch(Box::new(spec));
        prop_assert_eq!(decode::<MasterMessage>(&encode(&message).expect("encoded")).expect("decoded"), message);
    }

    #[test]
    fn no_prefix_of_a_message_is_one(message in message()) {
        let bytes = encode(&message).expect("encoded");
        for end in 0..bytes.len() {
            prop_assert!(decode::<AgentMessage>(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn garbage_is_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode::<MasterMessage>(&bytes);
        let mut versioned = vec![VERSION];
        versioned.extend(&bytes);
        let _ = decode::<AgentMessage>(&versioned);
        let _ = Codec::default().decode(&mut BytesMut::from(&bytes[..]));
    }
}

#[test]
fn other_versions_are_named() {
    let mut bytes = encode(&AgentMessage::Heartbeat).expect("encoded");
    bytes[0] = 7;
    let error = decode::<AgentMessage>(&bytes).expect_err("refused").to_string();
    assert!(
        error.contains("version 7") && error.contains(&format!("version {VERSION}")),
        "{error}"
    );
}

#[test]
fn lengths_over_the_limit_are_refused_before_memory_is_taken() {
    let mut buffer = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
    assert!(matches!(
        Codec::default().decode(&mut buffer),
        Err(WireError::TooLong { .. })
    ));
    // A forged length inside the message.
    let mut forged = encode(&MasterMessage::Refused(String::new())).expect("encoded");
    let start = forged.len() - 8;
    forged[start..].copy_from_slice(&(1u64 << 40).to_le_bytes());
    assert!(matches!(
        decode::<MasterMessage>(&forged),
        Err(WireError::TooLong { .. })
    ));
    let long = MasterMessage::Refused("x".repeat(MAX_MESSAGE));
    assert!(encode(&long).is_err());
}

#[test]
fn ends_inside_a_frame_are_told() {
    let mut buffer = BytesMut::new();
    Codec::default()
        .encode(AgentMessage::Heartbeat, &mut buffer)
        .expect("encoded");
    buffer.truncate(buffer.len() - 1);
    assert!(matches!(
        Codec::default().decode_eof(&mut buffer),
        Err(WireError::Truncated { .. })
    ));
    let mut bytes = encode(&MasterMessage::Heartbeat).expect("encoded");
    bytes.push(0);
    assert!(matches!(decode::<MasterMessage>(&bytes), Err(WireError::Trailing(1))));
}

#[test]
fn registered_keeps_its_subnet() {
    let message = MasterMessage::Registered(Registered {
        agent: AgentId::new("a"),
        subnet: "9.0.1.0/24".parse().ok(),
        unknown: vec![TaskId::new("t")],
    });
    assert_eq!(
        decode::<MasterMessage>(&encode(&message).expect("encoded")).expect("decoded"),
        message
    );
}

//! The fields of Mesos v1 messages that are read or written here: numbers, names and kinds as in Mesos 1.11's
//! `mesos.proto` and `master.proto`.

/// A message of the table.
#[derive(Debug)]
pub struct Message {
    /// Its name, for sentences about it.
    pub(super) name: &'static str,
    /// What becomes of the rest if its bytes are malformed.
    pub(super) loss: Loss,
    pub(super) fields: &'static [Field],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Only this message is lost.
    Itself,
    /// The record as a whole is refused.
    Record,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Many {
    One,
    List,
    /// Pairs of `key` and `value`, an object in JSON.
    Map,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) many: Many,
}

#[derive(Debug)]
pub(super) enum Kind {
    Bool,
    Number,
    Double,
    Text,
    Word(&'static [(&'static str, u32)]),
    Nested(&'static Message),
}

use Kind::{Bool, Double, Nested, Number, Text, Word};

const fn one(number: u32, name: &'static str, kind: Kind) -> Field {
    Field {
        number,
        name,
        kind,
        many: Many::One,
    }
}

const fn list(number: u32, name: &'static str, message: &'static Message) -> Field {
    Field {
        number,
        name,
        kind: Nested(message),
        many: Many::List,
    }
}

const fn map(number: u32, name: &'static str, entry: &'static Message) -> Field {
    Field {
        number,
        name,
        kind: Nested(entry),
        many: Many::Map,
    }
}

const fn part(name: &'static str, fields: &'static [Field]) -> Message {
    Message {
        name,
        loss: Loss::Itself,
        fields,
    }
}

const fn whole(name: &'static str, fields: &'static [Field]) -> Message {
    Message {
        name,
        loss: Loss::Record,
        fields,
    }
}

/// What a client sends, as far as it is carried out.
pub static CALL: Message = whole(
    "Call",
    &[
        one(1, "type", Word(CALLS)),
        one(6, "update_weights", Nested(&WEIGHTS)),
        one(7, "reserve_resources", Nested(&RESERVE)),
        one(8, "unreserve_resources", Nested(&RESERVE)),
        one(9, "create_volumes", Nested(&VOLUMES)),
        one(10, "destroy_volumes", Nested(&VOLUMES)),
        one(11, "update_maintenance_schedule", Nested(&UPDATE_SCHEDULE)),
        one(12, "start_maintenance", Nested(&MACHINES)),
        one(13, "stop_maintenance", Nested(&MACHINES)),
        one(14, "set_quota", Nested(&SET_QUOTA)),
        one(15, "remove_quota", Nested(&REMOVE_QUOTA)),
        one(16, "teardown", Nested(&TEARDOWN)),
        one(17, "mark_agent_gone", Nested(&OF_AGENT)),
        one(20, "update_quota", Nested(&UPDATE_QUOTA)),
        one(21, "drain_agent", Nested(&OF_AGENT)),
        one(22, "deactivate_agent", Nested(&OF_AGENT)),
        one(23, "reactivate_agent", Nested(&OF_AGENT)),
    ],
);
/// All calls about one agent; only a drain has more than its id.
static OF_AGENT: Message = part(
    "a call about an agent",
    &[
        one(1, "agent_id", Nested(&ID)),
        one(2, "max_grace_period", Nested(&DURATION)),
        one(3, "mark_gone", Bool),
    ],
);
static DURATION: Message = part("Duration", &[one(1, "seconds", Number)]);
static WEIGHTS: Message = part("UpdateWeights", &[list(1, "weight_infos", &WEIGHT)]);
static WEIGHT: Message = part("WeightInfo", &[one(1, "weight", Double), one(2, "role", Text)]);
static RESERVE: Message = whole(
    "ReserveResources",
    &[one(1, "agent_id", Nested(&ID)), list(2, "resources", &RESOURCE)],
);
static VOLUMES: Message = whole(
    "CreateVolumes",
    &[one(1, "agent_id", Nested(&ID)), list(2, "volumes", &RESOURCE)],
);
/// Both the call that sets a schedule and the answer that tells one.
static UPDATE_SCHEDULE: Message = whole("UpdateMaintenanceSchedule", &[one(1, "schedule", Nested(&SCHEDULE))]);
static SCHEDULE: Message = whole("Schedule", &[list(1, "windows", &WINDOW)]);
static WINDOW: Message = whole(
    "Window",
    &[
        list(1, "machine_ids", &MACHINE),
        one(2, "unavailability", Nested(&UNAVAILABILITY)),
    ],
);
static MACHINES: Message = whole("machines", &[list(1, "machines", &MACHINE)]);
static MACHINE: Message = whole("MachineID", &[one(1, "hostname", Text), one(2, "ip", Text)]);
static UNAVAILABILITY: Message = whole(
    "Unavailability",
    &[
        one(1, "start", Nested(&NANOSECONDS)),
        one(2, "duration", Nested(&NANOSECONDS)),
    ],
);
static NANOSECONDS: Message = part("TimeInfo", &[one(1, "nanoseconds", Number)]);
static GET_STATUS: Message = part("GetMaintenanceStatus", &[one(1, "status", Nested(&CLUSTER_STATUS))]);
static CLUSTER_STATUS: Message = part(
    "ClusterStatus",
    &[
        list(1, "draining_machines", &DRAINING_MACHINE),
        list(2, "down_machines", &MACHINE),
    ],
);
static DRAINING_MACHINE: Message = part("DrainingMachine", &[one(1, "id", Nested(&MACHINE))]);
static SET_QUOTA: Message = part("SetQuota", &[one(1, "quota_request", Nested(&QUOTA_REQUEST))]);
static QUOTA_REQUEST: Message = part(
    "QuotaRequest",
    &[
        one(1, "force", Bool),
        one(2, "role", Text),
        list(3, "guarantee", &RESOURCE),
    ],
);
static REMOVE_QUOTA: Message = part("RemoveQuota", &[one(1, "role", Text)]);
/// One that is cut short must not pass for one of fewer roles.
static UPDATE_QUOTA: Message = whole(
    "UpdateQuota",
    &[one(1, "force", Bool), list(2, "quota_configs", &QUOTA_CONFIG)],
);
static QUOTA_CONFIG: Message = whole(
    "QuotaConfig",
    &[
        one(1, "role", Text),
        map(2, "guarantees", &QUOTA_AMOUNT),
        map(3, "limits", &QUOTA_AMOUNT),
    ],
);
static QUOTA_AMOUNT: Message = whole(
    "an amount of a quota",
    &[one(1, "key", Text), one(2, "value", Nested(&SCALAR))],
);
static GET_QUOTA: Message = part("GetQuota", &[one(1, "status", Nested(&QUOTA_STATUS))]);
static QUOTA_STATUS: Message = part(
    "QuotaStatus",
    &[list(1, "infos", &QUOTA_INFO), list(2, "configs", &QUOTA_CONFIG)],
);
static QUOTA_INFO: Message = part("QuotaInfo", &[one(1, "role", Text), list(3, "guarantee", &RESOURCE)]);
static GET_ROLES: Message = part("GetRoles", &[list(1, "roles", &ROLE)]);
static ROLE: Message = part(
    "Role",
    &[
        one(1, "name", Text),
        one(2, "weight", Double),
        list(3, "frameworks", &ID),
        list(4, "resources", &RESOURCE),
    ],
);
static TEARDOWN: Message = part("Teardown", &[one(1, "framework_id", Nested(&ID))]);

/// A record of the stream.
pub static EVENT: Message = whole(
    "Event",
    &[
        one(1, "type", Word(EVENTS)),
        one(2, "subscribed", Nested(&SUBSCRIBED)),
        one(3, "task_added", Nested(&TASK_ADDED)),
        one(4, "task_updated", Nested(&TASK_UPDATED)),
        one(5, "agent_added", Nested(&AGENT_ADDED)),
        one(6, "agent_removed", Nested(&AGENT_REMOVED)),
        one(7, "framework_added", Nested(&FRAMEWORK_CHANGED)),
        one(8, "framework_updated", Nested(&FRAMEWORK_CHANGED)),
        one(9, "framework_removed", Nested(&FRAMEWORK_REMOVED)),
    ],
);

/// The answer to any call but `SUBSCRIBE`.
pub static RESPONSE: Message = whole(
    "Response",
    &[
        one(1, "type", Word(RESPONSES)),
        one(2, "get_health", Nested(&GET_HEALTH)),
        one(4, "get_version", Nested(&GET_VERSION)),
        one(5, "get_metrics", Nested(&GET_METRICS)),
        one(9, "get_state", Nested(&GET_STATE)),
        one(10, "get_agents", Nested(&GET_AGENTS)),
        one(11, "get_frameworks", Nested(&GET_FRAMEWORKS)),
        one(12, "get_executors", Nested(&EMPTY)),
        one(17, "get_maintenance_status", Nested(&GET_STATUS)),
        one(18, "get_maintenance_schedule", Nested(&UPDATE_SCHEDULE)),
        one(19, "get_quota", Nested(&GET_QUOTA)),
        one(20, "get_operations", Nested(&EMPTY)),
        one(13, "get_tasks", Nested(&GET_TASKS)),
        one(14, "get_roles", Nested(&GET_ROLES)),
        one(15, "get_weights", Nested(&WEIGHTS)),
        one(16, "get_master", Nested(&GET_MASTER)),
    ],
);

static EMPTY: Message = part("an empty list", &[]);
static GET_HEALTH: Message = part("GetHealth", &[one(1, "healthy", Bool)]);
static GET_VERSION: Message = part("GetVersion", &[one(1, "version_info", Nested(&VERSION_INFO))]);
static VERSION_INFO: Message = part(
    "VersionInfo",
    &[
        one(1, "version", Text),
        one(4, "build_user", Text),
        one(7, "git_tag", Text),
    ],
);
static GET_METRICS: Message = part("GetMetrics", &[list(1, "metrics", &METRIC)]);
static METRIC: Message = part("Metric", &[one(1, "name", Text), one(2, "value", Double)]);
static GET_MASTER: Message = part(
    "GetMaster",
    &[
        one(1, "master_info", Nested(&MASTER_INFO)),
        one(2, "start_time", Double),
        one(3, "elected_time", Double),
    ],
);
static MASTER_INFO: Message = part(
    "MasterInfo",
    &[
        one(1, "id", Text),
        one(2, "ip", Number),
        one(3, "port", Number),
        one(5, "hostname", Text),
        one(6, "version", Text),
    ],
);

static SUBSCRIBED: Message = whole(
    "Subscribed",
    &[
        one(1, "get_state", Nested(&GET_STATE)),
        one(2, "heartbeat_interval_seconds", Double),
    ],
);
static TASK_ADDED: Message = whole("TaskAdded", &[one(1, "task", Nested(&TASK))]);
static TASK_UPDATED: Message = whole(
    "TaskUpdated",
    &[
        one(1, "framework_id", Nested(&ID)),
        one(2, "status", Nested(&TASK_STATUS)),
        one(3, "state", Word(STATES)),
    ],
);
static AGENT_ADDED: Message = whole("AgentAdded", &[one(1, "agent", Nested(&AGENT))]);
static AGENT_REMOVED: Message = whole("AgentRemoved", &[one(1, "agent_id", Nested(&ID))]);
static FRAMEWORK_CHANGED: Message = whole("FrameworkAdded", &[one(1, "framework", Nested(&FRAMEWORK))]);
static FRAMEWORK_REMOVED: Message = whole("FrameworkRemoved", &[one(1, "framework_info", Nested(&FRAMEWORK_INFO))]);

static GET_STATE: Message = whole(
    "GetState",
    &[
        one(1, "get_tasks", Nested(&GET_TASKS)),
        one(2, "get_executors", Nested(&EMPTY)),
        one(3, "get_frameworks", Nested(&GET_FRAMEWORKS)),
        one(4, "get_agents", Nested(&GET_AGENTS)),
    ],
);
static GET_TASKS: Message = whole(
    "GetTasks",
    &[
        list(2, "tasks", &TASK),
        list(5, "unreachable_tasks", &TASK),
        list(3, "completed_tasks", &TASK),
    ],
);
static GET_FRAMEWORKS: Message = whole(
    "GetFrameworks",
    &[
        list(1, "frameworks", &FRAMEWORK),
        list(2, "completed_frameworks", &FRAMEWORK),
    ],
);
static GET_AGENTS: Message = whole(
    "GetAgents",
    &[list(1, "agents", &AGENT), list(2, "recovered_agents", &AGENT_INFO)],
);

static ID: Message = part("an id", &[one(1, "value", Text)]);
static FRAMEWORK: Message = part(
    "Framework",
    &[
        one(1, "framework_info", Nested(&FRAMEWORK_INFO)),
        one(2, "active", Bool),
        one(3, "connected", Bool),
        one(11, "recovered", Bool),
    ],
);
static FRAMEWORK_INFO: Message = part(
    "FrameworkInfo",
    &[
        one(1, "user", Text),
        one(2, "name", Text),
        one(3, "id", Nested(&ID)),
        one(4, "failover_timeout", Double),
        one(5, "checkpoint", Bool),
        one(7, "hostname", Text),
        one(9, "webui_url", Text),
        list(10, "capabilities", &CAPABILITY),
    ],
);
static CAPABILITY: Message = part("Capability", &[one(1, "type", Word(CAPABILITIES))]);
static AGENT: Message = part(
    "Agent",
    &[
        one(1, "agent_info", Nested(&AGENT_INFO)),
        one(2, "active", Bool),
        one(12, "deactivated", Bool),
        one(3, "version", Text),
        one(4, "pid", Text),
        list(7, "total_resources", &RESOURCE),
        list(8, "allocated_resources", &RESOURCE),
    ],
);
static AGENT_INFO: Message = part(
    "AgentInfo",
    &[
        one(1, "hostname", Text),
        one(8, "port", Number),
        list(3, "resources", &RESOURCE),
        list(5, "attributes", &ATTRIBUTE),
        one(6, "id", Nested(&ID)),
    ],
);
static ATTRIBUTE: Message = part(
    "Attribute",
    &[
        one(1, "name", Text),
        one(2, "type", Word(VALUES)),
        one(3, "scalar", Nested(&SCALAR)),
        one(4, "ranges", Nested(&RANGES)),
        one(6, "set", Nested(&SET)),
        one(5, "text", Nested(&ID)),
    ],
);
static RESOURCE: Message = part(
    "Resource",
    &[
        one(1, "name", Text),
        one(2, "type", Word(VALUES)),
        one(3, "scalar", Nested(&SCALAR)),
        one(4, "ranges", Nested(&RANGES)),
        one(7, "disk", Nested(&DISK)),
        list(13, "reservations", &RESERVATION),
    ],
);
static RESERVATION: Message = part(
    "Resource.ReservationInfo",
    &[
        one(1, "principal", Text),
        one(2, "labels", Nested(&LABELS)),
        one(3, "role", Text),
        one(4, "type", Word(RESERVATIONS)),
    ],
);
static DISK: Message = part(
    "Resource.DiskInfo",
    &[
        one(1, "persistence", Nested(&PERSISTENCE)),
        one(2, "volume", Nested(&VOLUME)),
    ],
);
static PERSISTENCE: Message = part("Persistence", &[one(1, "id", Text), one(2, "principal", Text)]);
static VOLUME: Message = part("Volume", &[one(1, "container_path", Text), one(3, "mode", Word(MODES))]);
static SET: Message = part(
    "Set",
    &[Field {
        number: 1,
        name: "item",
        kind: Text,
        many: Many::List,
    }],
);
static SCALAR: Message = part("Scalar", &[one(1, "value", Double)]);
static RANGES: Message = part("Ranges", &[list(1, "range", &RANGE)]);
static RANGE: Message = part("Range", &[one(1, "begin", Number), one(2, "end", Number)]);

static TASK: Message = part(
    "Task",
    &[
        one(1, "name", Text),
        one(2, "task_id", Nested(&ID)),
        one(3, "framework_id", Nested(&ID)),
        one(5, "agent_id", Nested(&ID)),
        one(6, "state", Word(STATES)),
        list(7, "resources", &RESOURCE),
        list(8, "statuses", &TASK_STATUS),
        one(9, "status_update_state", Word(STATES)),
        one(11, "labels", Nested(&LABELS)),
        one(12, "discovery", Nested(&DISCOVERY)),
        one(13, "container", Nested(&CONTAINER)),
        one(15, "health_check", Nested(&HEALTH_CHECK)),
    ],
);
static TASK_STATUS: Message = part(
    "TaskStatus",
    &[
        one(1, "task_id", Nested(&ID)),
        one(2, "state", Word(STATES)),
        one(4, "message", Text),
        one(9, "source", Word(SOURCES)),
        one(10, "reason", Word(REASONS)),
        one(5, "agent_id", Nested(&ID)),
        one(6, "timestamp", Double),
        one(8, "healthy", Bool),
        one(12, "labels", Nested(&LABELS)),
        one(13, "container_status", Nested(&CONTAINER_STATUS)),
    ],
);
static CONTAINER_STATUS: Message = part("ContainerStatus", &[list(1, "network_infos", &NETWORK_INFO)]);
static NETWORK_INFO: Message = part(
    "NetworkInfo",
    &[
        list(5, "ip_addresses", &IP_ADDRESS),
        one(6, "name", Text),
        one(4, "labels", Nested(&LABELS)),
        list(7, "port_mappings", &PORT_MAPPING),
    ],
);
static IP_ADDRESS: Message = part(
    "IPAddress",
    &[one(1, "protocol", Word(FAMILIES)), one(2, "ip_address", Text)],
);
static PORT_MAPPING: Message = part(
    "PortMapping",
    &[
        one(1, "host_port", Number),
        one(2, "container_port", Number),
        one(3, "protocol", Text),
    ],
);
static CONTAINER: Message = part(
    "ContainerInfo",
    &[
        one(1, "type", Word(CONTAINERS)),
        one(3, "docker", Nested(&DOCKER)),
        list(7, "network_infos", &NETWORK_INFO),
    ],
);
static DOCKER: Message = part(
    "DockerInfo",
    &[
        one(1, "image", Text),
        one(2, "network", Word(DOCKER_NETWORKS)),
        list(3, "port_mappings", &PORT_MAPPING),
    ],
);
static HEALTH_CHECK: Message = part("HealthCheck", &[one(8, "type", Word(CHECKS))]);
static DISCOVERY: Message = part(
    "DiscoveryInfo",
    &[
        one(1, "visibility", Word(VISIBILITIES)),
        one(2, "name", Text),
        one(3, "environment", Text),
        one(4, "location", Text),
        one(5, "version", Text),
        one(6, "ports", Nested(&PORTS)),
        one(7, "labels", Nested(&LABELS)),
    ],
);
static PORTS: Message = part("Ports", &[list(1, "ports", &PORT)]);
static PORT: Message = part(
    "Port",
    &[
        one(1, "number", Number),
        one(2, "name", Text),
        one(3, "protocol", Text),
        one(4, "visibility", Word(VISIBILITIES)),
        one(5, "labels", Nested(&LABELS)),
    ],
);
static LABELS: Message = part("Labels", &[list(1, "labels", &LABEL)]);
static LABEL: Message = part("Label", &[one(1, "key", Text), one(2, "value", Text)]);

type Words = &'static [(&'static str, u32)];

const EVENTS: Words = &[
    ("UNKNOWN", 0),
    ("SUBSCRIBED", 1),
    ("TASK_ADDED", 2),
    ("TASK_UPDATED", 3),
    ("AGENT_ADDED", 4),
    ("AGENT_REMOVED", 5),
    ("FRAMEWORK_ADDED", 6),
    ("FRAMEWORK_UPDATED", 7),
    ("FRAMEWORK_REMOVED", 8),
    ("HEARTBEAT", 9),
];
const STATES: Words = &[
    ("TASK_STARTING", 0),
    ("TASK_RUNNING", 1),
    ("TASK_FINISHED", 2),
    ("TASK_FAILED", 3),
    ("TASK_KILLED", 4),
    ("TASK_LOST", 5),
    ("TASK_STAGING", 6),
    ("TASK_ERROR", 7),
    ("TASK_KILLING", 8),
    ("TASK_DROPPED", 9),
    ("TASK_UNREACHABLE", 10),
    ("TASK_GONE", 11),
    ("TASK_GONE_BY_OPERATOR", 12),
    ("TASK_UNKNOWN", 13),
];
const REASONS: Words = &[
    ("REASON_COMMAND_EXECUTOR_FAILED", 0),
    ("REASON_FRAMEWORK_REMOVED", 3),
    ("REASON_INVALID_OFFERS", 6),
    ("REASON_CONTAINER_LIMITATION_MEMORY", 8),
    ("REASON_RECONCILIATION", 9),
    ("REASON_AGENT_REMOVED", 11),
    ("REASON_AGENT_RESTARTED", 12),
    ("REASON_TASK_INVALID", 15),
    ("REASON_CONTAINER_LIMITATION_DISK", 20),
    ("REASON_CONTAINER_LAUNCH_FAILED", 21),
    ("REASON_TASK_GROUP_INVALID", 25),
    ("REASON_TASK_HEALTH_CHECK_STATUS_UPDATED", 29),
    ("REASON_TASK_KILLED_DURING_LAUNCH", 30),
    ("REASON_AGENT_REMOVED_BY_OPERATOR", 31),
    ("REASON_AGENT_REREGISTERED", 32),
    ("REASON_AGENT_DRAINING", 34),
];
const VALUES: Words = &[("SCALAR", 0), ("RANGES", 1), ("SET", 2), ("TEXT", 3)];
const RESERVATIONS: Words = &[("STATIC", 1), ("DYNAMIC", 2)];
const MODES: Words = &[("RW", 1), ("RO", 2)];
const SOURCES: Words = &[("SOURCE_MASTER", 0), ("SOURCE_AGENT", 1), ("SOURCE_EXECUTOR", 2)];
const FAMILIES: Words = &[("IPv4", 1), ("IPv6", 2)];
const CONTAINERS: Words = &[("DOCKER", 1), ("MESOS", 2)];
const DOCKER_NETWORKS: Words = &[("HOST", 1), ("BRIDGE", 2), ("NONE", 3), ("USER", 4)];
const CHECKS: Words = &[("UNKNOWN", 0), ("COMMAND", 1), ("HTTP", 2), ("TCP", 3)];
const VISIBILITIES: Words = &[("FRAMEWORK", 0), ("CLUSTER", 1), ("EXTERNAL", 2)];
const CAPABILITIES: Words = &[
    ("UNKNOWN", 0),
    ("REVOCABLE_RESOURCES", 1),
    ("TASK_KILLING_STATE", 2),
    ("GPU_RESOURCES", 3),
    ("SHARED_RESOURCES", 4),
    ("PARTITION_AWARE", 5),
    ("MULTI_ROLE", 6),
    ("RESERVATION_REFINEMENT", 7),
    ("REGION_AWARE", 8),
];
const CALLS: Words = &[
    ("UNKNOWN", 0),
    ("GET_HEALTH", 1),
    ("GET_FLAGS", 2),
    ("GET_VERSION", 3),
    ("GET_METRICS", 4),
    ("GET_LOGGING_LEVEL", 5),
    ("SET_LOGGING_LEVEL", 6),
    ("LIST_FILES", 7),
    ("READ_FILE", 8),
    ("GET_STATE", 9),
    ("GET_AGENTS", 10),
    ("GET_FRAMEWORKS", 11),
    ("GET_EXECUTORS", 12),
    ("GET_TASKS", 13),
    ("GET_ROLES", 14),
    ("GET_WEIGHTS", 15),
    ("UPDATE_WEIGHTS", 16),
    ("GET_MASTER", 17),
    ("SUBSCRIBE", 18),
    ("RESERVE_RESOURCES", 19),
    ("UNRESERVE_RESOURCES", 20),
    ("CREATE_VOLUMES", 21),
    ("DESTROY_VOLUMES", 22),
    ("GET_MAINTENANCE_STATUS", 23),
    ("GET_MAINTENANCE_SCHEDULE", 24),
    ("UPDATE_MAINTENANCE_SCHEDULE", 25),
    ("START_MAINTENANCE", 26),
    ("STOP_MAINTENANCE", 27),
    ("GET_QUOTA", 28),
    ("SET_QUOTA", 29),
    ("REMOVE_QUOTA", 30),
    ("TEARDOWN", 31),
    ("MARK_AGENT_GONE", 32),
    ("GET_OPERATIONS", 33),
    ("GROW_VOLUME", 34),
    ("SHRINK_VOLUME", 35),
    ("UPDATE_QUOTA", 36),
    ("DRAIN_AGENT", 37),
    ("DEACTIVATE_AGENT", 38),
    ("REACTIVATE_AGENT", 39),
];
const RESPONSES: Words = &[
    ("UNKNOWN", 0),
    ("GET_HEALTH", 1),
    ("GET_VERSION", 3),
    ("GET_METRICS", 4),
    ("GET_STATE", 8),
    ("GET_AGENTS", 9),
    ("GET_FRAMEWORKS", 10),
    ("GET_EXECUTORS", 11),
    ("GET_TASKS", 12),
    ("GET_ROLES", 13),
    ("GET_WEIGHTS", 14),
    ("GET_MASTER", 15),
    ("GET_MAINTENANCE_STATUS", 16),
    ("GET_MAINTENANCE_SCHEDULE", 17),
    ("GET_QUOTA", 18),
    ("GET_OPERATIONS", 19),
];

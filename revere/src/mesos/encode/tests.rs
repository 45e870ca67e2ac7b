//! Shapes against what Mesos prints.

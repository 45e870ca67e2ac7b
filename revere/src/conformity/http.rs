//! Sections 1.11 and 5.6: what the HTTP APIs of dcos-net and Mesos-DNS answer.

use serde_json::{Value, json};

use super::{Row, better, same};
use crate::node::shapes::{Cluster, ask};

/// A path, its status, and what must hold of its body.
#[derive(Clone, Copy)]
struct Asked {
    api: Api,
    path: &'static str,
    status: u16,
    holds: fn(&str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Api {
    MesosDns,
    DcosNet,
}

const fn mesos_dns(path: &'static str, status: u16, holds: fn(&str)) -> Asked {
    Asked {
        api: Api::MesosDns,
        path,
        status,
        holds,
    }
}

const fn dcos_net(path: &'static str, status: u16, holds: fn(&str)) -> Asked {
    Asked {
        api: Api::DcosNet,
        path,
        status,
        holds,
    }
}

fn read(body: &str) -> Value {
    serde_json::from_str(body).expect("JSON")
}

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

const ROWS: &[Row<Asked>] = &[
    same(
        "5.6",
        "version",
        mesos_dns("/v1/version", 200, |body| {
            assert_eq!(keys(&read(body)), ["Service", "URL", "Version"]);
        }),
    ),
    better(
        "5.6",
        "config, without its secret",
        "no secret is shown",
        mesos_dns("/v1/config", 200, |body| {
            assert_eq!(read(body)["MesosCredentials"]["Secret"], "");
            assert_eq!(read(body)["Domain"], "mesos");
        }),
    ),
    same(
        "5.6",
        "hosts: address by address, last dots and case without meaning",
        mesos_dns("/v1/hosts/WEB.marathon.mesos.", 200, |body| {
            let host = |ip: &str| json!({"host": "web.marathon.mesos.", "ip": ip});
            assert_eq!(read(body), json!([host("10.0.0.1"), host("10.0.0.2")]));
        }),
    ),
    same(
        "5.6",
        "hosts: a blank object for nothing",
        mesos_dns("/v1/hosts/no.marathon.mesos", 200, |body| {
            assert_eq!(read(body), json!([{"host": "", "ip": ""}]));
        }),
    ),
    same(
        "5.6",
        "ports of a host are not carried out",
        mesos_dns("/v1/hosts/web.marathon.mesos/ports", 501, |body| {
            assert!(body.starts_with("To be implemented"), "{body}");
        }),
    ),
    same(
        "5.6",
        "services: the port as text",
        mesos_dns("/v1/services/_web._tcp.marathon.mesos", 200, |body| {
            assert_eq!(keys(&read(body)[0]), ["host", "ip", "port", "service"]);
            assert_eq!(read(body)[0]["port"], "31000");
        }),
    ),
    same(
        "5.6",
        "services: a blank object for nothing",
        mesos_dns("/v1/services/_no._tcp.marathon.mesos", 200, |body| {
            assert_eq!(read(body), json!([{"service": "", "host": "", "ip": "", "port": ""}]));
        }),
    ),
    better(
        "5.6",
        "enumerate",
        "of tasks that have names",
        mesos_dns("/v1/enumerate", 200, |body| {
            let all = read(body);
            assert_eq!(keys(&all["frameworks"][0]), ["name", "tasks"]);
            assert_eq!(keys(&all["frameworks"][0]["tasks"][0]), ["id", "name", "records"]);
            assert_eq!(
                keys(&all["frameworks"][0]["tasks"][0]["records"][0]),
                ["host", "name", "rtype"]
            );
        }),
    ),
    better(
        "5.6",
        "axfr",
        "0: names follow events",
        mesos_dns("/v1/axfr", 200, |body| {
            let zone = read(body);
            let wanted = ["Domain", "Mname", "Records", "RefreshSeconds", "Rname", "Serial", "TTL"];
            assert_eq!(keys(&zone), wanted);
            assert_eq!(keys(&zone["Records"]), ["AAAAs", "As", "SRVs"]);
            assert_eq!(zone["RefreshSeconds"], 0);
            let targets = zone["Records"]["SRVs"]["_web._tcp.marathon.mesos."].to_string();
            assert!(targets.contains(".marathon.mesos.:31000"), "{targets}");
        }),
    ),
    same(
        "1.11",
        "vips",
        dcos_net("/v1/vips", 200, |body| {
            let vip = &read(body)[0];
            assert_eq!(keys(vip), ["backend", "protocol", "vip"]);
            assert_eq!(vip["vip"], "web.marathon.l4lb.thisdcos.directory:80");
            assert_eq!(vip["backend"][0], json!({"ip": "10.0.0.1", "port": 31000}));
        }),
    ),
    same(
        "1.11",
        "nodes",
        dcos_net("/v1/nodes", 200, |body| {
            assert_eq!(
                keys(&read(body)[0]),
                ["hostname", "private_ip", "public_ips", "updated"]
            );
        }),
    ),
    same(
        "1.11",
        "version",
        dcos_net("/v1/version", 200, |body| {
            assert_eq!(keys(&read(body)), ["Service", "Version"])
        }),
    ),
    same("1.11", "config is not there", dcos_net("/v1/config", 501, |_| ())),
    same("1.11", "enumerate is not there", dcos_net("/v1/enumerate", 501, |_| ())),
    same(
        "1.11",
        "hosts: an empty list for nothing",
        dcos_net("/v1/hosts/no.marathon.mesos", 200, |body| {
            assert_eq!(read(body), json!([]))
        }),
    ),
    same(
        "1.11",
        "services: the port as a number",
        dcos_net("/v1/services/_web._tcp.marathon.mesos", 200, |body| {
            assert_eq!(read(body)[0]["port"], 31000);
        }),
    ),
    same(
        "1.11",
        "records: A, AAAA and SRV, the last as target:port",
        dcos_net("/v1/records", 200, |body| {
            let all = read(body);
            let srv = all
                .as_array()
                .expect("a list")
                .iter()
                .find(|one| one["rtype"] == "SRV")
                .expect("one");
            assert!(
                srv["host"].as_str().is_some_and(|host| host.ends_with(":31000")),
                "{srv}"
            );
        }),
    ),
    same(
        "1.11",
        "metrics of an unknown registry",
        dcos_net("/v1/metrics/none", 404, |_| ()),
    ),
    better(
        "1.11",
        "the secret key",
        "`/lashup` does not exist",
        dcos_net("/lashup/key", 404, |_| ()),
    ),
];

#[tokio::test]
async fn the_old_apis_answer_as_they_did() {
    let cluster = Cluster::new();
    let (mesos_dns, dcos_net) = (cluster.mesos_dns().await, cluster.dcos_net().await);
    for row in ROWS {
        let asked = row.begin();
        let at = if asked.api == Api::MesosDns {
            mesos_dns
        } else {
            dcos_net
        };
        let (status, body) = ask(at, asked.path).await;
        assert_eq!(status, asked.status, "{}: {body}", asked.path);
        (asked.holds)(&body);
    }
}

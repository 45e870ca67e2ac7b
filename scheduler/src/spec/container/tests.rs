//! Images, volumes and fetch by table: what is taken, and each rule's fault at its path.

use model::{Command, Root};

use crate::{App, Fault, ServicePorts, Timestamp};

use super::*;

fn with_image() -> AppSpec {
    AppSpec {
        id: "/a".to_owned(),
        container: ContainerSpec {
            kind: Some("DOCKER".to_owned()),
            image: Some("busybox:1".to_owned()),
            ..ContainerSpec::default()
        },
        ..AppSpec::default()
    }
}

fn check(spec: &AppSpec) -> Result<App, Vec<Fault>> {
    let mut ports = ServicePorts::new((10_000, 20_000));
    App::from_spec(Timestamp(5), spec, "marathon", "dcos", &mut ports)
}

fn volume(container: &str, host: &str) -> VolumeSpec {
    VolumeSpec {
        container_path: container.to_owned(),
        host_path: host.to_owned(),
        ..VolumeSpec::default()
    }
}

fn uri(uri: &str) -> FetchSpec {
    FetchSpec {
        uri: uri.to_owned(),
        ..FetchSpec::default()
    }
}

#[test]
fn an_image_needs_no_command() {
    let app = check(&with_image()).expect("valid");
    assert_eq!(app.command, Command::Argv(Vec::new()));
    let image = app.container.image.expect("an image");
    assert_eq!((image.name.as_str(), image.pull), ("busybox:1", Pull::IfMissing));
    let args = AppSpec {
        args: Some(vec![String::new(), "-x".to_owned()]),
        ..with_image()
    };
    assert_eq!(
        check(&args).expect("valid").command,
        Command::Argv(vec![String::new(), "-x".to_owned()]),
        "arguments of the image's entrypoint may be empty"
    );
    let both = AppSpec {
        cmd: Some("x".to_owned()),
        args: Some(vec!["y".to_owned()]),
        ..with_image()
    };
    assert_eq!(check(&both).expect_err("both")[0].path, "/");
}

#[test]
fn everything_written_is_kept() {
    let mut spec = with_image();
    spec.container.force_pull = true;
    spec.container.privileged = true;
    spec.container.pull_secret = Some("team".to_owned());
    spec.container.parameters = vec![("read-only".to_owned(), "true".to_owned())];
    spec.container.seccomp_unconfined = true;
    spec.container.shm_size = Some(8);
    spec.container.volumes = vec![volume("/data", "/srv/data"), volume("cache", "kept")];
    spec.container.volumes[1].mode = Some("RO".to_owned());
    let container = check(&spec).expect("valid").container;
    let image = container.image.expect("an image");
    assert_eq!((image.pull, image.credentials.as_deref()), (Pull::Always, Some("team")));
    assert_eq!(container.privilege, Privilege::Full);
    assert_eq!(container.parameters, [Parameter::ReadOnly(Root::ReadOnly)]);
    assert_eq!((container.seccomp, container.shm_mb), (Seccomp::Unconfined, Some(8)));
    let modes: Vec<_> = container.volumes.iter().map(|volume| volume.mode).collect();
    assert_eq!(modes, [VolumeMode::ReadWrite, VolumeMode::ReadOnly]);
}

/// One thing made wrong, and where the fault is told.
type Case = (&'static str, fn(&mut AppSpec));

fn refused(base: fn() -> AppSpec, cases: &[Case]) {
    for (path, spoil) in cases {
        let mut spec = base();
        spoil(&mut spec);
        let faults = check(&spec).expect_err(path);
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, [*path], "{faults:?}");
    }
}

#[test]
fn wrong_containers_are_refused_at_their_paths() {
    refused(
        with_image,
        &[
            ("/container/type", |spec| spec.container.kind = Some("LXC".to_owned())),
            ("/container/docker/image", |spec| {
                spec.container.image = Some("a b".to_owned())
            }),
            ("/container/docker/pullConfig/secret", |spec| {
                spec.container.pull_secret = Some("../x".to_owned())
            }),
            ("/container/docker/parameters(0)", |spec| {
                spec.container.parameters = vec![("volume-from".to_owned(), "x".to_owned())]
            }),
            ("/container/linuxInfo/seccomp/profileName", |spec| {
                spec.container.seccomp_profile = Some("mine".to_owned())
            }),
            ("/container/linuxInfo/seccomp", |spec| {
                spec.container.seccomp_profile = Some("default".to_owned());
                spec.container.seccomp_unconfined = true;
            }),
            ("/container/linuxInfo/ipcInfo/mode", |spec| {
                spec.container.ipc_mode = Some("HOST".to_owned())
            }),
            ("/container/linuxInfo/ipcInfo/shmSize", |spec| {
                spec.container.shm_size = Some(0)
            }),
            ("/container/volumes(0)/containerPath", |spec| {
                spec.container.volumes = vec![volume("/", "/srv")]
            }),
            ("/container/volumes(0)/hostPath", |spec| {
                spec.container.volumes = vec![volume("/data", "../etc")]
            }),
            ("/container/volumes(1)/containerPath", |spec| {
                spec.container.volumes = vec![volume("/data", "/a"), volume("data/", "/b")]
            }),
            ("/container/volumes(0)/mode", |spec| {
                spec.container.volumes = vec![volume("/data", "/a")];
                spec.container.volumes[0].mode = Some("rw".to_owned());
            }),
        ],
    );
}

#[test]
fn what_needs_an_image_is_refused_without_one() {
    fn bare() -> AppSpec {
        AppSpec {
            id: "/a".to_owned(),
            cmd: Some("x".to_owned()),
            ..AppSpec::default()
        }
    }
    refused(
        bare,
        &[
            ("/container/docker/image", |spec| {
                spec.container.kind = Some("DOCKER".to_owned())
            }),
            ("/container/docker/privileged", |spec| spec.container.privileged = true),
            ("/container/linuxInfo/ipcInfo", |spec| spec.container.shm_size = Some(9)),
            ("/container/volumes(0)/containerPath", |spec| {
                spec.container.volumes = vec![volume("/data", "/srv")]
            }),
        ],
    );
}

#[test]
fn wrong_uris_are_refused_at_their_paths() {
    refused(
        with_image,
        &[
            ("/fetch(0)/uri", |spec| spec.fetch = vec![uri("ftp://a.example/x")]),
            ("/fetch(0)/uri", |spec| spec.fetch = vec![uri("http://a.example/")]),
            ("/fetch(1)/uri", |spec| {
                spec.fetch = vec![uri("http://a.example/x"), uri("http://b.example/x")]
            }),
            ("/fetch(0)/destPath", |spec| {
                spec.fetch = vec![uri("http://a.example/x")];
                spec.fetch[0].dest = Some("../up".to_owned());
            }),
        ],
    );
    let mut spec = with_image();
    spec.fetch = vec![uri("http://a.example/x.tgz")];
    spec.fetch[0].executable = true;
    let fetch = check(&spec).expect("valid").fetch;
    assert_eq!(
        (fetch[0].extract, fetch[0].permission, fetch[0].cache),
        (Extract::Archives, FetchPermission::Executable, FetchCache::None)
    );
}

//! Documents in the shapes that registries and builders write.

use serde_json::json;

use super::*;

fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

fn entry(architecture: &str, digit: char) -> serde_json::Value {
    json!({"mediaType": MANIFESTS[2], "digest": digest(digit), "size": 7,
        "platform": {"architecture": architecture, "os": "linux"}})
}

fn index(entries: &[serde_json::Value]) -> Vec<Descriptor> {
    let text = json!({"schemaVersion": 2, "manifests": entries}).to_string();
    match Document::parse(text.as_bytes()).expect("an index") {
        Kind::Index(entries) => entries,
        Kind::Image(image) => panic!("{image:?}"),
    }
}

fn platform(architecture: &str) -> Platform {
    Platform {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        variant: None,
    }
}

#[test]
fn the_platform_chooses_from_an_index() {
    let entries = index(&[entry("arm64", '1'), entry("amd64", '2'), entry("amd64", '3')]);
    let chosen = choose(&entries, &platform("amd64")).expect("there");
    assert_eq!(chosen.digest.to_string(), digest('2'));
    let error = choose(&entries, &platform("riscv64")).expect_err("absent").to_string();
    assert_eq!(
        error,
        "it has no version for linux/riscv64, only for linux/arm64, linux/amd64, linux/amd64"
    );
}

#[test]
fn an_image_is_read_and_its_configuration_checked() {
    let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest('4'), "size": 9});
    let text = json!({"schemaVersion": 2, "config": {"digest": digest('5'), "size": 3}, "layers": [layer]}).to_string();
    let Kind::Image(manifest) = Document::parse(text.as_bytes()).expect("an image") else {
        panic!("no image")
    };
    let config = |architecture: &str, layers: usize| {
        let ids: Vec<String> = (0..layers).map(|_| digest('6')).collect();
        json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids},
            "config": {"User": "", "Env": ["PATH=/bin"], "Cmd": ["sh"], "Entrypoint": null, "WorkingDir": "/srv"}})
        .to_string()
    };
    let parsed = ImageConfig::parse(config("amd64", 1).as_bytes(), &manifest, &platform("amd64")).expect("fits");
    let run = parsed.config.expect("run config");
    assert_eq!((run.cmd, run.entrypoint), (Some(vec!["sh".to_owned()]), None));
    let wrong = ImageConfig::parse(config("arm64", 1).as_bytes(), &manifest, &platform("amd64"));
    assert!(matches!(wrong, Err(ManifestError::Platform { .. })), "{wrong:?}");
    let short = ImageConfig::parse(config("amd64", 2).as_bytes(), &manifest, &platform("amd64"));
    assert_eq!(short, Err(ManifestError::Mismatch { told: 2, listed: 1 }));
}

#[test]
fn nonsense_is_told() {
    let schema1 = Document::parse(b"{\"schemaVersion\":1,\"fsLayers\":[]}").map(drop);
    assert_eq!(schema1, Err(ManifestError::Schema(1)));
    for text in [
        "",
        "[]",
        "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:../x\",\"size\":1}}",
    ] {
        let error = Document::parse(text.as_bytes()).map(drop).expect_err(text);
        assert!(matches!(error, ManifestError::Damaged(_)), "{error:?}");
    }
    let layer = json!({"digest": digest('4'), "size": 9});
    let many = json!({"schemaVersion": 2, "config": layer, "layers": vec![layer.clone(); 121]}).to_string();
    assert_eq!(
        Document::parse(many.as_bytes()).map(drop),
        Err(ManifestError::Layers(121))
    );
}

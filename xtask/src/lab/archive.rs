//! A small image in a file, as `docker save` writes it.

use std::path::PathBuf;

use anyhow::Result;

use super::Lab;

impl Lab {
    /// Makes it from the machine's busybox, where every node finds it; gives its name for apps, and the root directory that it
    /// was made of.
    pub fn busybox_archive(&self) -> Result<(String, PathBuf)> {
        let architecture = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        };
        let dir = self.dir.join("busybox");
        let shown = dir.display();
        self.fabric.sh(&format!(
            "mkdir -p {shown}/root/bin && cd {shown} && cp /bin/busybox root/bin/ && \
             for name in sh sleep; do ln -sf busybox root/bin/$name; done && \
             tar -C root --owner=0 --group=0 -cf layer.tar . && sum=$(sha256sum layer.tar | cut -d' ' -f1) && \
             echo '{{\"architecture\": \"{architecture}\", \"os\": \"linux\", \"config\": {{}}, \
             \"rootfs\": {{\"type\": \"layers\", \"diff_ids\": [\"sha256:'$sum'\"]}}}}' > config.json && \
             echo '[{{\"Config\": \"config.json\", \"RepoTags\": [], \"Layers\": [\"layer.tar\"]}}]' > manifest.json && \
             tar -cf busybox.tar manifest.json config.json layer.tar"
        ))?;
        Ok((format!("docker-archive:{shown}/busybox.tar"), dir.join("root")))
    }
}

//! Bringing functions onto a node: by the admin API, and by `mote deploy`.

use std::path::Path;

use serde_json::{Value, json};

use crate::http::{Reply, request};
use crate::node::Node;
use crate::program::repository;

impl Node {
    /// Deploys code with a spec such as `&json!({"memory": "1MiB"})`, and gives what the node says
    /// about the function.
    #[track_caller]
    pub fn deploy(&self, name: &str, wasm: &[u8], spec: &Value) -> Value {
        let reply = self.try_deploy(name, wasm, spec);
        assert!(matches!(reply.status, 200 | 201), "{}", reply.text());
        reply.json()
    }

    /// Deploys code and gives the answer, whatever it is: of the upload when that failed.
    #[track_caller]
    pub fn try_deploy(&self, name: &str, wasm: &[u8], spec: &Value) -> Reply {
        let digest = digest(wasm);
        let upload = self.upload(&digest, wasm);
        if upload.status >= 300 {
            return upload;
        }
        let deploy = json!({ "spec": spec, "artifact": digest });
        let target = format!("/v1/functions/{name}");
        self.ask("PUT", &target, deploy.to_string().as_bytes())
    }

    /// Uploads code under a digest, right or wrong.
    #[track_caller]
    pub fn upload(&self, digest: &str, wasm: &[u8]) -> Reply {
        let token = format!("Bearer {}", self.token());
        let headers = [
            ("authorization", token.as_str()),
            ("content-type", "application/wasm"),
        ];
        let target = format!("/v1/artifacts/{digest}");
        request(self.admin(), "PUT", &target, &headers, wasm)
    }

    /// Deploys a folder with `mote deploy`.
    #[track_caller]
    pub fn deploy_folder(&self, folder: &Path) -> String {
        let path = folder.to_str().unwrap();
        self.mote(&["deploy", path]).ok()
    }

    /// Deploys one of the examples under its own name: `hello`, `echo`, `sieve` or `light`.
    #[track_caller]
    pub fn deploy_example(&self, name: &str) {
        self.deploy_folder(&repository().join("examples").join(name));
    }

    /// What the node says about a function.
    #[track_caller]
    pub fn function(&self, name: &str) -> Value {
        let target = format!("/v1/functions/{name}");
        self.ask("GET", &target, &[]).expect(200).json()
    }

    /// The names of all functions.
    #[track_caller]
    pub fn functions(&self) -> Vec<String> {
        let list = self.ask("GET", "/v1/functions", &[]).expect(200).json();
        let names = list["functions"].as_array().unwrap().iter();
        names
            .map(|function| function["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// The bytes of an example's component.
#[track_caller]
pub fn example(name: &str) -> Vec<u8> {
    let path = repository().join(format!("examples/{name}/{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The digest of an artifact.
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

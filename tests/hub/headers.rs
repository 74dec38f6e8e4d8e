//! Plans are made from headers alone, in few round trips.

use std::path::Path;

use super::{done, fixture, home, home_with_snapshot, refused};
use crate::support::hub::{COMMIT, HubServer, ID};

#[test]
fn a_plan_is_that_of_the_snapshot_in_the_cache() {
    let (hub, home, cached) = (HubServer::of(&fixture()), home(), home_with_snapshot());
    let plan = |home: &Path, model: &str| done(&hub, home, &["plan", "recipe.yaml", "--json", "-m", model]);
    let local = plan(cached.path(), ID);
    assert!(hub.requests().is_empty());
    for model in [ID.to_owned(), format!("{ID}@{COMMIT}"), format!("{ID}@main"), format!("{ID}@refs/pr/1")] {
        assert_eq!(plan(home.path(), &model), local, "{model}");
    }
}

#[test]
fn headers_take_few_round_trips_and_little_of_the_files() {
    let (hub, home) = (HubServer::of(&fixture()), home());
    done(&hub, home.path(), &["plan", "recipe.yaml", "-m", ID]);
    let requests = hub.requests();
    let shards: Vec<_> = requests.iter().filter(|request| request.path.contains(".safetensors?")).collect();
    assert_eq!(shards.len(), 4, "{shards:?}");
    let bytes = |name: &str| std::fs::read(fixture().join(name)).unwrap();
    for shard in shards {
        let range = shard.range.clone().unwrap();
        let name = Path::new(shard.path.split('?').next().unwrap()).file_name().unwrap().to_str().unwrap().to_owned();
        let header = 8 + u64::from_le_bytes(bytes(&name)[..8].try_into().unwrap()) as usize;
        assert!(range.start == 0 && (header..header + 8192).contains(&range.end), "{name}: {range:?}, {header}");
    }
    // The description, config, index and card; each shard takes a redirect besides.
    assert!(requests.len() <= 4 * 2 + 4, "{requests:#?}");
}

#[test]
fn every_command_that_reads_headers_takes_a_model_of_the_hub() {
    let (hub, home) = (HubServer::of(&fixture()), home());
    let run = |arguments: &[&str]| done(&hub, home.path(), arguments);
    assert!(run(&["inspect", ID]).contains("70 tensors"), "{}", run(&["inspect", ID]));
    let headers = run(&["inspect", "--headers", ID]);
    assert_eq!(headers, run(&["inspect", "--headers", fixture().to_str().unwrap()]));
    assert!(run(&["init", ID]).contains(&format!("model: {ID}")));
    run(&["explain", "recipe.yaml", "-m", ID, "lm_head.weight"]);
    run(&["fit", ID, "--vram", "24GiB"]);
    run(&["models", ID]);
    std::fs::write(home.path().join("tested.yaml"), format!("{}model: {ID}\n", super::RECIPE)).unwrap();
    run(&["test", "tested.yaml"]);
    let requests = hub.requests();
    assert!(requests.iter().all(|request| request.range.as_ref().is_none_or(|range| range.end < 64 << 10)));
}

#[test]
fn nobody_is_asked_where_no_connection_is_wanted() {
    let (hub, home) = (HubServer::of(&fixture()), home());
    for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        let output = hub.command(home.path()).args(["inspect", ID]).env(variable, "1").output().unwrap();
        let said = super::said(&output, 1);
        assert!(said.contains("neither a directory nor a model in the Hugging Face cache"), "{said}");
    }
    // A single word is a directory that is missing.
    refused(&hub, home.path(), &["inspect", "tiny"], 1);
    assert!(hub.requests().is_empty());
}

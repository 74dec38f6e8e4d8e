//! Errors of stores, in our words and with what to do.

use super::proxy::Mistake;
use super::{RECIPE, Scene, done, fixture, refused};

#[test]
fn what_is_not_there_is_named() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    let inspect = |address: &str| refused(scene.command().args(["inspect", address]), 1);
    let said = inspect("s3://no-such-bucket/tiny");
    assert!(said.contains("`s3://no-such-bucket` is no bucket, or none that these credentials may see"), "{said}");
    let said = inspect(&format!("s3://{}/tiny", scene.bucket));
    assert!(said.contains("nothing lies at") && said.contains("check the spelling of the prefix"), "{said}");
    let said = inspect("s3://a//b");
    assert!(said.contains("is no address in an object store"), "{said}");
    let said = inspect(&format!("s3://{}/made", scene.bucket));
    assert!(said.contains("nothing lies at"), "{said}");
}

#[test]
fn refusals_say_what_to_do() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    for (status, headers, body, message, help) in [
        (
            403,
            "",
            "<Error><Code>AccessDenied</Code></Error>",
            "may not be used with these credentials (AccessDenied)",
            "s3:ListBucket",
        ),
        (403, "", "<Error><Code>SignatureDoesNotMatch</Code></Error>", "(SignatureDoesNotMatch)", "s3:GetObject"),
        (301, "x-amz-bucket-region: eu-west-3\r\n", "", "lies in the region `eu-west-3`", "AWS_REGION=eu-west-3"),
        (400, "", "<Error><Code>AuthorizationHeaderMalformed</Code></Error>", "in another region", "AWS_REGION"),
    ] {
        scene.proxy.once("GET", "list-type", Mistake::Answer(status, headers, body));
        let said = refused(scene.command().args(["inspect", &scene.source()]), 1);
        assert!(said.contains(message) && said.contains(help), "{said}");
    }
}

#[test]
fn missing_credentials_are_named_at_once() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    let mut command = scene.command();
    command.env_remove("AWS_ACCESS_KEY_ID").env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_PROFILE", "work");
    let said = refused(command.args(["inspect", &scene.source()]), 1);
    assert!(said.contains("no credentials for S3 are set, and there is no profile `work` in `~/.aws`"), "{said}");
    assert!(scene.proxy.seen().is_empty());
}

#[test]
fn a_profile_tells_what_variables_leave_open() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    let home = tempfile::tempdir().unwrap();
    let credentials = home.path().join("credentials");
    std::fs::write(&credentials, "[work]\naws_access_key_id = key\naws_secret_access_key = secret\n").unwrap();
    let mut command = scene.command();
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("AWS_PROFILE", "work");
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_SHARED_CREDENTIALS_FILE", &credentials);
    done(command.args(["inspect", &scene.source()]));
    std::fs::write(&credentials, "[work]\nsso_session = corporate\n").unwrap();
    let said = refused(&mut command, 1);
    assert!(said.contains("and the profile `work` has them by `sso_session`, which is not read"), "{said}");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    // A port that nobody listens on: it was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = scene.command();
    command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"));
    let said = refused(command.args(["inspect", &scene.source()]), 2);
    assert!(said.contains("cannot be reached") && said.contains("AWS_ENDPOINT_URL"), "{said}");
}

#[test]
fn options_that_need_the_files_here_say_so() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    for option in ["--verify", "--sha256", "--join"] {
        let mut command = scene.command();
        command.args(["apply", "recipe.yaml", "-m"]).arg(fixture()).args(["-o", &scene.output(), option]);
        let said = refused(&mut command, 1);
        assert!(said.contains("write to a directory, and copy that"), "{said}");
    }
    let inside = format!("{}/fp8", scene.source());
    let said = refused(scene.command().args(["apply", "recipe.yaml", "-m", &scene.source(), "-o", &inside]), 2);
    assert!(said.contains("lie in each other"), "{said}");
}

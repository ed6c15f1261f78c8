//! Keys, as OpenSSH and OpenSSL know them: the constants below were made and fingerprinted with ssh-keygen and openssl.

use super::generate::{ed25519_generate, rsa_generate};
use super::public_key::{PublicKey, PublicKeyError};
use base::random::Random;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

const RSA_LINE: &str = "\
    ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCfUFM3y2aN1/3suOKqXi4uVUpqqi/YOh0cKNGIzRY06JpnqXEDBKderaFW\
    +P4nAi2do99s2kz/BwUrkEgcJmedI31tF0IEKJUBDvyd8c9HuwaNOBo1UTp7eNTIpH7qax+5VMvwp7P7gHa72wG8ValrVtdo\
    cyG3/wtRic37oLViFRlapYHBHhA3abpqs0VR8dWIKOQvRrNbCw7MRJAWh+bk1VlCCzctGrHJrLq5eUDK2cfSUT3lRkcgvEC7\
    cUypxznLoUu9/Asx2OqNKCdr9x4QTH9pTiTnSky/EX+vpi4ysosoIh+CGyGe/6eZK41K5D+dE5Fwzr+WJOzrQcG3K5UT me@\
    example";
const RSA_SSH2: &str = "\
---- BEGIN SSH2 PUBLIC KEY ----\n\
Comment: \"2048-bit RSA,\\\n\
 of me@example\"\n\
AAAAB3NzaC1yc2EAAAADAQABAAABAQCfUFM3y2aN1/3suOKqXi4uVUpqqi/YOh0cKNGIzR\n\
Y06JpnqXEDBKderaFW+P4nAi2do99s2kz/BwUrkEgcJmedI31tF0IEKJUBDvyd8c9HuwaN\n\
OBo1UTp7eNTIpH7qax+5VMvwp7P7gHa72wG8ValrVtdocyG3/wtRic37oLViFRlapYHBHh\n\
A3abpqs0VR8dWIKOQvRrNbCw7MRJAWh+bk1VlCCzctGrHJrLq5eUDK2cfSUT3lRkcgvEC7\n\
cUypxznLoUu9/Asx2OqNKCdr9x4QTH9pTiTnSky/EX+vpi4ysosoIh+CGyGe/6eZK41K5D\n\
+dE5Fwzr+WJOzrQcG3K5UT\n\
---- END SSH2 PUBLIC KEY ----";
const RSA_DER: &str = "\
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAn1BTN8tmjdf97Ljiql4uLlVKaqov2DodHCjRiM0WNOiaZ6lxAwSn\
    Xq2hVvj+JwItnaPfbNpM/wcFK5BIHCZnnSN9bRdCBCiVAQ78nfHPR7sGjTgaNVE6e3jUyKR+6msfuVTL8Kez+4B2u9sBvFWp\
    a1bXaHMht/8LUYnN+6C1YhUZWqWBwR4QN2m6arNFUfHViCjkL0azWwsOzESQFofm5NVZQgs3LRqxyay6uXlAytnH0lE95UZH\
    ILxAu3FMqcc5y6FLvfwLMdjqjSgna/ceEEx/aU4k50pMvxF/r6YuMrKLKCIfghshnv+nmSuNSuQ/nRORcM6/liTs60HBtyuV\
    EwIDAQAB";
const RSA_MD5: &str = "43:78:27:4c:fc:2b:8b:e7:f8:72:94:db:18:62:93:02";
const ED25519_LINE: &str = "\
    ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICOyce/MH7t6lvg8XFpeUC26Z/q1XcJOl68lLyXQQoRW me@example";
const ED25519_SHA256: &str = "8byrgWYitYz2slQMDSgfDWtmSqyUU1KDcJ5RkM8jqis=";

fn parse(text: &str) -> Result<PublicKey, PublicKeyError> {
    PublicKey::parse(text.as_bytes())
}

#[test]
fn one_key_in_all_its_forms_is_one_key() {
    let key = parse(RSA_LINE).unwrap();
    assert_eq!(key.key_type(), "rsa");
    assert_eq!(parse(RSA_SSH2).unwrap(), key);
    assert_eq!(parse(RSA_DER).unwrap(), key);
    let der = STANDARD.decode(RSA_DER).unwrap();
    assert_eq!(PublicKey::parse(&der).unwrap(), key);
    assert_eq!(key.line("me@example"), RSA_LINE);
}

#[test]
fn fingerprints_are_those_that_aws_documents() {
    assert_eq!(parse(RSA_LINE).unwrap().fingerprint(), RSA_MD5);
    let key = parse(ED25519_LINE).unwrap();
    assert_eq!(key.key_type(), "ed25519");
    assert_eq!(key.fingerprint(), ED25519_SHA256);
    assert_eq!(key.line("me@example"), ED25519_LINE);
}

#[test]
fn what_is_no_key_is_refused_for_what_it_is() {
    for text in ["", "hello", "ssh-rsa", "ssh-rsa AAAA", "ssh-ed25519 !!!", "-----BEGIN PUBLIC KEY-----"] {
        assert_eq!(parse(text), Err(PublicKeyError::Format), "{text}");
    }
    assert!(matches!(parse("ecdsa-sha2-nistp256 AAAA x"), Err(PublicKeyError::Algorithm(_))));
    let short = PublicKey::Rsa { exponent: vec![1, 0, 1], modulus: vec![0xff; 64] };
    assert_eq!(parse(&short.line("")), Err(PublicKeyError::Bits(512)));
    // Two lines would put a second key into a guest.
    assert_eq!(parse(&format!("{ED25519_LINE}\n{ED25519_LINE}")), Err(PublicKeyError::Format));
}

#[test]
fn a_made_rsa_key_is_pkcs1_and_its_public_half_can_be_imported() {
    let key = rsa_generate().unwrap();
    assert_eq!(parse(&key.public.line("x")).unwrap(), key.public);
    assert!(key.private_pem.starts_with("-----BEGIN RSA PRIVATE KEY-----\nMII"));
    assert_eq!(key.fingerprint.len(), 20 * 3 - 1);
}

#[test]
fn a_made_ed25519_key_is_openssh_s() {
    let key = ed25519_generate(&mut Random::from_seed(7), "web").unwrap();
    assert_eq!(parse(&key.public.line("web")).unwrap(), key.public);
    assert!(key.private_pem.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA"));
}

/// ssh-keygen, where it is installed, reads the private halves and finds the public ones.
#[test]
fn ssh_keygen_reads_what_is_made() {
    use std::os::unix::fs::PermissionsExt;
    if std::process::Command::new("ssh-keygen").arg("-?").output().is_err() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let keys = [rsa_generate().unwrap(), ed25519_generate(&mut Random::from_seed(8), "web").unwrap()];
    for (index, key) in keys.iter().enumerate() {
        let path = directory.path().join(index.to_string());
        std::fs::write(&path, format!("{}\n", key.private_pem)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let output =
            std::process::Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let line = String::from_utf8(output.stdout).unwrap();
        let blob = |line: &str| line.split_ascii_whitespace().nth(1).map(str::to_owned);
        assert_eq!(blob(&line), blob(&key.public.line("")));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = PublicKey::parse(&bytes);
        let _ = parse(&format!("ssh-rsa {}", STANDARD.encode(&bytes)));
        let _ = parse(&STANDARD.encode(&bytes));
    }
}

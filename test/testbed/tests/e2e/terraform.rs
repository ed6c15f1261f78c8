//! A network made, read back, imported and destroyed by Terraform with the real AWS provider. Ignored unless asked for:
//! Terraform and the provider (from a registry, or a mirror that `TF_CLI_CONFIG_FILE` names) must be on the machine.

use std::path::Path;
use std::process::Command;
use testbed::{Options, Testbed};

const STACK: &str = r#"
terraform {
  required_providers { aws = { source = "hashicorp/aws" } }
}
resource "aws_vpc" "main" {
  cidr_block           = "10.7.0.0/16"
  enable_dns_hostnames = true
  tags                 = { Name = "terraform" }
}
resource "aws_subnet" "a" {
  vpc_id     = aws_vpc.main.id
  cidr_block = "10.7.1.0/24"
}
resource "aws_internet_gateway" "main" {
  vpc_id = aws_vpc.main.id
}
resource "aws_route_table" "main" {
  vpc_id = aws_vpc.main.id
  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.main.id
  }
}
resource "aws_route_table_association" "a" {
  subnet_id      = aws_subnet.a.id
  route_table_id = aws_route_table.main.id
}
resource "aws_vpc_dhcp_options" "main" {
  domain_name         = "example.com"
  domain_name_servers = ["AmazonProvidedDNS"]
}
resource "aws_vpc_dhcp_options_association" "main" {
  vpc_id          = aws_vpc.main.id
  dhcp_options_id = aws_vpc_dhcp_options.main.id
}
resource "aws_network_acl" "main" {
  vpc_id     = aws_vpc.main.id
  subnet_ids = [aws_subnet.a.id]
  ingress {
    rule_no    = 100
    action     = "allow"
    protocol   = "tcp"
    cidr_block = "0.0.0.0/0"
    from_port  = 0
    to_port    = 65535
  }
  egress {
    rule_no    = 100
    action     = "allow"
    protocol   = "-1"
    cidr_block = "0.0.0.0/0"
    from_port  = 0
    to_port    = 0
  }
}
resource "aws_security_group" "web" {
  name   = "web"
  vpc_id = aws_vpc.main.id
  egress {
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = ["0.0.0.0/0"]
  }
}
resource "aws_vpc_security_group_ingress_rule" "http" {
  security_group_id = aws_security_group.web.id
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
  cidr_ipv4         = "0.0.0.0/0"
  description       = "http"
}
resource "aws_network_interface" "main" {
  subnet_id       = aws_subnet.a.id
  private_ips     = ["10.7.1.10"]
  security_groups = [aws_security_group.web.id]
}
resource "aws_eip" "main" {
  domain            = "vpc"
  network_interface = aws_network_interface.main.id
  depends_on        = [aws_internet_gateway.main]
}
output "vpc" { value = aws_vpc.main.id }
output "subnet" { value = aws_subnet.a.id }
"#;

/// Terraform in a folder of its own, against the cloud.
struct Terraform<'a> {
    cloud: &'a Testbed,
    folder: &'a Path,
}

impl Terraform<'_> {
    /// Runs it; its exit code and all that it said.
    fn try_run(&self, arguments: &[&str]) -> (i32, String) {
        let keys = self.cloud.keys();
        let output = Command::new("terraform")
            .current_dir(self.folder)
            .args(arguments)
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.cloud.address()))
            .env("AWS_ACCESS_KEY_ID", keys.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", keys.secret_access_key)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .output()
            .expect("terraform can be started");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.code().unwrap_or(-1), said.concat())
    }

    fn run(&self, arguments: &[&str]) -> String {
        let (code, said) = self.try_run(arguments);
        assert_eq!(code, 0, "terraform {arguments:?}: {said}");
        said
    }

    /// The plan must have nothing to do.
    fn plan_is_empty(&self) {
        let (code, said) = self.try_run(&["plan", "-detailed-exitcode", "-no-color"]);
        assert_eq!(code, 0, "a plan after an apply is empty: {said}");
    }
}

#[test]
#[ignore = "needs Terraform and the AWS provider on the machine"]
fn a_network_is_made_read_back_imported_and_destroyed() {
    let cloud = Testbed::start(Options { networks: true, ..Options::simulated(2) });
    let folder = tempfile::tempdir().expect("there is room for a folder");
    std::fs::write(folder.path().join("main.tf"), STACK).expect("the stack can be written");
    let terraform = Terraform { cloud: &cloud, folder: folder.path() };
    terraform.run(&["init", "-no-color"]);
    terraform.run(&["apply", "-auto-approve", "-no-color"]);
    terraform.plan_is_empty();
    for (name, output) in [("aws_vpc.main", "vpc"), ("aws_subnet.a", "subnet")] {
        let id = terraform.run(&["output", "-raw", output]);
        terraform.run(&["state", "rm", name]);
        terraform.run(&["import", "-no-color", name, id.trim()]);
    }
    terraform.plan_is_empty();
    terraform.run(&["destroy", "-auto-approve", "-no-color"]);
    let left = cloud.boto3("return [v['VpcId'] for v in ec2.describe_vpcs()['Vpcs'] if not v['IsDefault']]");
    assert_eq!(left, serde_json::json!([]));
}

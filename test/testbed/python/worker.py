"""Runs scripts that use boto3, one JSON line for each: {"script", "args", "environment"} in, {"value"}, {"refused"}
or {"failed"} out. Started by the testbed's `clients` module.

A script is the body of a function. It sees `args`, `boto3`, `botocore`, `time`, the clients `ec2`, `sts` and
`quotas`, `client(service, **config)` for another one, and `raw(...)` for requests that no client would send.
"""

import base64
import datetime
import http.client
import json
import os
import sys
import textwrap
import time
import traceback
import urllib.parse

import boto3
import botocore
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.exceptions

SERVICES = {"ec2": "ec2", "sts": "sts", "quotas": "service-quotas"}


def session_of(environment):
    return boto3.session.Session(
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )


class Cloud:
    """A cloud's clients, made when they are first asked for."""

    def __init__(self, environment):
        self.environment = environment
        self.session = session_of(environment)
        self.clients = {}

    def client(self, service, **config):
        key = (service, repr(sorted(config.items())))
        if key not in self.clients:
            self.clients[key] = self.session.client(
                service,
                endpoint_url=self.environment["AWS_ENDPOINT_URL"],
                config=botocore.config.Config(**config),
            )
        return self.clients[key]

    def raw(self, body, *, method="POST", service="ec2", headers=None, secret=None, key=None, skew_s=0, sign=True,
            query=None, tamper=None):
        """One HTTP request, signed by botocore: {"status", "body", "headers"}. `body` is a dictionary of query
        parameters or bytes; `tamper` replaces the body after it was signed."""
        content = urllib.parse.urlencode(body).encode() if isinstance(body, dict) else body
        url = self.environment["AWS_ENDPOINT_URL"] + "/"
        if query:
            url += "?" + urllib.parse.urlencode(query)
        all_headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"} if content else {}
        all_headers.update(headers or {})
        request = botocore.awsrequest.AWSRequest(method=method, url=url, data=content, headers=all_headers)
        if sign:
            credentials = botocore.credentials.Credentials(
                key or self.environment["AWS_ACCESS_KEY_ID"],
                secret or self.environment["AWS_SECRET_ACCESS_KEY"],
            )
            signer = botocore.auth.SigV4Auth(credentials, service, self.environment["AWS_DEFAULT_REGION"])
            signed_at(signer, request, skew_s)
        prepared = request.prepare()
        where = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
        try:
            target = where.path + ("?" + where.query if where.query else "")
            sent = {name: as_text(value) for name, value in prepared.headers.items()}
            connection.request(method, target, body=content if tamper is None else tamper, headers=sent)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            return {"status": answer.status, "body": text, "headers": dict(answer.getheaders())}
        finally:
            connection.close()


def signed_at(signer, request, skew_s):
    """Signs as if the clock were wrong by that much."""
    original = botocore.auth.get_current_datetime
    botocore.auth.get_current_datetime = lambda *a, **k: original(*a, **k) + datetime.timedelta(seconds=skew_s)
    try:
        signer.add_auth(request)
    finally:
        botocore.auth.get_current_datetime = original


def as_text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def plain(value):
    """What JSON has no word for."""
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, (set, tuple)):
        return list(value)
    raise TypeError(f"a script returned a {type(value).__name__}")


class Clouds:
    """The clouds seen, newest last; a few, because tests run beside each other."""

    def __init__(self):
        self.known = {}

    def of(self, environment):
        key = json.dumps(environment, sort_keys=True)
        cloud = self.known.pop(key, None) or Cloud(environment)
        self.known[key] = cloud
        if len(self.known) > 4:
            self.known.pop(next(iter(self.known)))
        return cloud


def run(cloud, request):
    script = request["script"]
    names = {
        "args": request["args"], "boto3": boto3, "botocore": botocore, "time": time, "os": os,
        "client": cloud.client, "raw": cloud.raw, "json": json, "base64": base64,
    }
    for name, service in SERVICES.items():
        if name in script:
            names[name] = cloud.client(service)
    body = textwrap.indent(textwrap.dedent(script), "    ")
    exec(compile("def script():\n" + body, "script", "exec"), names)
    return names["script"]()


def main():
    answers = sys.stdout
    # What a script prints is for people.
    sys.stdout = sys.stderr
    clouds = Clouds()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = json.dumps({"value": run(clouds.of(request["environment"]), request)}, default=plain)
        except botocore.exceptions.ClientError as error:
            answer = json.dumps({"refused": {
                "code": error.response["Error"]["Code"],
                "message": error.response["Error"]["Message"],
                "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
            }})
        except Exception:
            answer = json.dumps({"failed": traceback.format_exc()})
        answers.write(answer + "\n")
        answers.flush()


main()

"""What is sent to make a gateway ask somebody else."""

from __future__ import annotations


def attacks(port: int) -> list[str]:
    """Addresses of the trap at *port* of this machine, and of what clouds and networks hide."""
    at = f"127.0.0.1:{port}"
    return [
        # This machine, in every spelling that one parser or another takes.
        f"http://{at}/v1",
        f"https://{at}/v1",
        at,
        f"//{at}/v1",
        f"\\\\{at}\\v1",
        f"http:{at}/v1",
        f"HtTp://{at}/v1",
        f" http://{at}/v1",
        f"http://localhost:{port}/v1",
        f"http://127.1:{port}/v1",
        f"http://2130706433:{port}/v1",
        f"http://0x7f000001:{port}/v1",
        f"http://0177.0.0.1:{port}/v1",
        f"http://0:{port}/v1",
        f"http://[::1]:{port}/v1",
        f"http://[::ffff:127.0.0.1]:{port}/v1",
        f"http://[64:ff9b::7f00:1]:{port}/v1",
        f"http://[2002:7f00:1::]:{port}/v1",
        f"http://127。0。0。1:{port}/v1",
        f"http://①②⑦.⓪.⓪.①:{port}/v1",
        # Names that lead there, or change their mind.
        f"http://127.0.0.1.nip.example:{port}/v1",
        f"http://localtest.example:{port}/v1",
        f"http://7f000001.c0a80001.rebind.example:{port}/v1",
        # Where clouds keep credentials.
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "http://2852039166/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://100.100.100.200/latest/meta-data/",
        # Other protocols.
        "file:///etc/passwd",
        f"gopher://{at}/_POST%20/",
        f"dict://{at}/info",
        f"ftp://{at}/",
        f"ldap://{at}/a",
        f"${{jndi:ldap://{at}/a}}",
        "unix:///var/run/docker.sock",
        "data:application/json,{}",
        # Whose host is it?
        f"https://api.openai.com@{at}/v1",
        f"https://api.openai.com:443@{at}/v1",
        f"http://{at}#@api.openai.com/v1",
        f"http://api.openai.com\\@{at}/v1",
        f"@{at}/v1",
        f".{at}/v1",
        f":{port}/v1",
        # Out of a path, a query or a header.
        f"../../../../{at}/v1",
        f"..%2f..%2f{at}%2fv1",
        f"/%2e%2e//{at}/v1",
        f"x?base_url=http://{at}",
        f"x#http://{at}",
        f"x\r\nHost: {at}\r\n\r\nGET / HTTP/1.1",
        f"x%0d%0aHost:%20{at}",
        f"x\nLocation: http://{at}",
        f"x\x00http://{at}",
    ]

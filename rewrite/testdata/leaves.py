"""Reads names of files with messages from standard input, and prints for each a line of JSON: its parts
without parts of their own, as [type, SHA-1 of the decoded content] in the order in which they stand."""
import email, email.policy, hashlib, json, re, sys


def leaves(part):
    kind = part.get_content_type()
    if kind.startswith("message/"):
        return [[kind, ""]]
    if part.is_multipart():
        return [leaf for p in part.get_payload() for leaf in leaves(p)]
    if str(part.get("content-transfer-encoding", "")).strip().lower() == "quoted-printable":
        raw = part.get_payload()
        part.set_payload(re.sub(r"[ \t]+(\r?\n|$)", r"\1", raw))
    content = part.get_payload(decode=True) or b""
    content = content.replace(b"\r\n", b"\n").rstrip(b"\n")
    return [[kind, hashlib.sha1(content).hexdigest()]]


for name in sys.stdin.read().split("\0"):
    with open(name, "rb") as f:
        text = f.read()
    text = text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    try:
        found = leaves(email.message_from_bytes(text, policy=email.policy.compat32))
    except Exception as e:
        found = [["error", type(e).__name__]]
    print(json.dumps(found))

"""Reads messages with Python's email package and says what it sees in them.

    check.py < jobs > readings

A second opinion beside the tests' own MIME walk. jobs is JSON, one object a line: {"id",
"original", "copy", "prefix", "gone"}: two files, what our links begin with, and addresses that
must not be in the copy. readings is one object a line: {"id", "list_unsubscribe", "list_post",
"control" (fields that must not leave), "links" (our links in each text part of the copy that is
no attachment: ["text/html", 1]), "stray" (our links anywhere else in the body), "left"
(addresses of gone that are still in a text part), "kept" (whether the parts that must not change
have the same bytes in both), "defects" (those that the copy has and the original has not), "lost"
(whether Python already could not make out header and parts of the original)}.
"""
import email
import email.policy
import hashlib
import html
import json
import re
import sys

TEXTS = ("text/plain", "text/html", "text/watch-html", "text/x-amp-html", "text/enriched", "text/richtext", "text/markdown")
CONTROL = ("bcc", "resent-bcc", "x-consent-scope", "x-consent-class", "x-consent-language")
LOST = ("FirstHeaderLineIsContinuationDefect", "MissingHeaderBodySeparatorDefect", "MultipartInvariantViolationDefect",
        "NoBoundaryInMultipartDefect", "StartBoundaryNotFoundDefect")


def read(path):
    with open(path, "rb") as f:
        return email.message_from_binary_file(f, policy=email.policy.compat32)


def leaves(part, untouchable=False):
    """Yields (part, whether it must stay as it is) for each part without children."""
    if part.get_content_type() == "message/external-body":
        return  # it is fetched from elsewhere, so it goes without consent to opens
    if part.is_multipart():
        untouchable = untouchable or part.get_content_type() in (
            "message/rfc822", "message/global", "message/delivery-status", "message/partial",
            "multipart/signed", "multipart/encrypted")
        for child in part.get_payload():
            yield from leaves(child, untouchable)
    else:
        text = part.get_content_type() in TEXTS and part.get_content_disposition() != "attachment"
        yield part, untouchable or not text


def body(part):
    decoded = part.get_payload(decode=True) or b""
    charset = part.get_content_charset() or ""
    if charset.startswith(("utf-16", "utf-32", "utf-7", "ucs")):
        try:
            decoded = decoded.decode(charset, "replace").encode("utf-8")
        except LookupError:
            pass
    return decoded


def defects(message):
    return sorted(type(d).__name__ for p in message.walk() for d in p.defects)


# No mail reader looks into a comment, but Outlook does into those that begin with "[".
COMMENT = re.compile(r"(?s)<!--(?:-{0,2}>|(?:[^\[>-]|-[^>]).*?(?:--!?>|\Z))")
BOUND = r"(?![A-Za-z0-9/_%=&?#~+-]|\.[A-Za-z0-9])"


def check(job):
    original, copy = read(job["original"]), read(job["copy"])
    before, after = defects(original), defects(copy)  # decoding adds more, each time
    prefix = job["prefix"].encode()
    links, stray, text = [], 0, ""
    for part, untouchable in leaves(copy):
        content = body(part)
        n = content.count(prefix)
        if untouchable:
            stray += n
            continue
        links.append([part.get_content_type(), n])
        seen = COMMENT.sub("", content.decode("latin-1"))
        text += "\n" + seen + "\n" + html.unescape(seen)
    gone = [a for a in job["gone"] if re.search("(?<![A-Za-z0-9])" + re.escape(a.encode().decode("latin-1")) + BOUND, text)]

    def untouched(message):
        return [hashlib.sha256(body(p)).hexdigest() for p, u in leaves(message) if u]

    return {
        "id": job["id"],
        "list_unsubscribe": [str(v) for v in copy.get_all("List-Unsubscribe", [])],
        "list_post": [str(v) for v in copy.get_all("List-Unsubscribe-Post", [])],
        "control": sorted(k for k in copy.keys() if k.lower() in CONTROL),
        "links": links,
        "stray": stray,
        "left": gone,
        "kept": untouched(original) == untouched(copy),
        "lost": any(d in LOST for d in before),
        "defects": [d for d in after if d not in before],
    }


def main():
    for line in sys.stdin:
        print(json.dumps(check(json.loads(line))))


main()
